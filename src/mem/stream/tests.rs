//! The queue by itself: what goes in comes out, and lies are found out.

use proptest::prelude::*;

use super::*;
use crate::base::limits::SHARED_QUEUE_BYTES_MIN;

/// Words of records in the queues here: small, so that they wrap all the time.
const BYTES: usize = 256;

fn read_all(reader: &mut StreamReader) -> Vec<u8> {
    let mut into = [0; BYTES];
    let len = reader.read(&mut into).unwrap();
    into[..len].to_vec()
}

#[test]
fn nothing_is_seen_before_it_is_published() {
    let (mut writer, mut reader) = pair(BYTES);
    assert_eq!(writer.write(b"hello"), Ok(true));
    assert!(reader.is_empty());
    assert!(!writer.publish());
    assert!(!reader.is_empty());
    assert_eq!(read_all(&mut reader), b"hello");
    assert!(reader.is_empty());
}

#[test]
fn records_keep_their_bounds_where_they_are_lent() {
    let (mut writer, mut reader) = pair(BYTES);
    for record in [&b"one"[..], b"", b"three and more"] {
        assert_eq!(writer.write(record), Ok(true));
    }
    let _ = writer.publish();
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    assert_eq!(reader.lent(), b"one");
    reader.take(2);
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    assert_eq!(reader.lent(), b"e");
    reader.take(1);
    assert_eq!(reader.begin(), Ok(Begun::Bytes), "an empty record is passed over");
    assert_eq!(reader.lent(), b"three and more");
    reader.take(14);
    assert_eq!(reader.begin(), Ok(Begun::Nothing));
}

#[test]
fn longest_record_finds_room_wherever_the_queue_is_empty() {
    let (mut writer, mut reader) = pair(BYTES);
    let longest = vec![7; writer.record_bytes_max()];
    for start in 0..BYTES / WORD_BYTES {
        assert_eq!(writer.write(&longest), Ok(true), "at {start}");
        let _ = writer.publish();
        assert_eq!(read_all(&mut reader), longest);
        let _ = reader.release();
        assert_eq!(writer.write(b""), Ok(true));
        let _ = writer.publish();
        assert_eq!(reader.begin(), Ok(Begun::Nothing));
        let _ = reader.release();
    }
}

#[test]
fn full_queue_takes_nothing_until_some_is_given_back() {
    let (mut writer, mut reader) = pair(BYTES);
    let mut written = 0;
    while writer.write(&[1; 24]).unwrap() {
        written += 1;
    }
    assert_eq!(written, BYTES / 32);
    assert_eq!(writer.write_some(&[1; 24]), Ok(0));
    let _ = writer.publish();
    assert!(!writer.has_new_room());
    assert_eq!(read_all(&mut reader).len(), written * 24);
    assert_eq!(writer.write(&[1; 24]), Ok(false), "read, but not given back");
    reader.give_back();
    assert!(writer.has_new_room());
    assert_eq!(writer.write(&[1; 24]), Ok(true));
}

#[test]
fn record_that_is_begun_keeps_its_room() {
    let (mut writer, mut reader) = pair(BYTES);
    assert_eq!(writer.write(&[3; 100]), Ok(true));
    let _ = writer.publish();
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    reader.take(99);
    let _ = reader.release();
    assert_eq!(reader.end.word(reader.end.at.head).load(Ordering::Relaxed), 0);
    reader.take(1);
    let _ = reader.release();
    assert_eq!(reader.end.word(reader.end.at.head).load(Ordering::Relaxed), record_words(100));
}

#[test]
fn bytes_written_in_place_arrive() {
    let (mut writer, mut reader) = pair(BYTES);
    let filled = writer.write_with(12, |bytes| bytes.copy_from_slice(b"in its place"));
    assert_eq!(filled, Ok(Some(())));
    let _ = writer.publish();
    assert_eq!(read_all(&mut reader), b"in its place");
    let _ = reader.release();
    while writer.write(&[0; 56]).unwrap() {}
    assert_eq!(writer.write_with(56, |_| unreachable!("there is no room")), Ok(None::<()>));
}

#[test]
fn sleeper_is_woken_once_for_each_sleep() {
    let (mut writer, mut reader) = pair(BYTES);
    let mut send = || {
        assert_eq!(writer.write(b"x"), Ok(true));
        writer.publish()
    };
    assert!(!send());
    reader.prepare_sleep();
    assert!(send());
    assert!(!send());
    reader.prepare_sleep();
    reader.awake();
    assert!(!send());
    assert_eq!(read_all(&mut reader), b"xxxx");
    writer.prepare_sleep();
    assert!(reader.release());
    assert!(!reader.release(), "nothing new was given back");
}

proptest! {
    #[test]
    fn bytes_come_out_as_they_went_in(
        records in proptest::collection::vec((0_usize..300, any::<bool>(), 1_usize..200), 1..200),
    ) {
        let (mut writer, mut reader) = pair(BYTES);
        let (mut sent, mut received) = (Vec::new(), Vec::new());
        let mut byte = 0_u8;
        for (len, lend, read) in records {
            let bytes: Vec<u8> = (0..len).map(|_| { byte = byte.wrapping_add(1); byte }).collect();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let some = writer.write_some(rest).unwrap();
                sent.extend_from_slice(&rest[..some]);
                rest = &rest[some..];
                let _ = writer.publish();
                if some > 0 {
                    continue;
                }
                if lend {
                    prop_assert_eq!(reader.begin(), Ok(Begun::Bytes));
                    // The rest of the record: what is copied must begin at a word.
                    let lent = reader.lent().to_vec();
                    reader.take(lent.len());
                    received.extend(lent);
                } else {
                    let mut into = vec![0; read.next_multiple_of(8)];
                    let len = reader.read(&mut into).unwrap();
                    prop_assert!(len > 0, "a full queue has something to read");
                    received.extend_from_slice(&into[..len]);
                }
                let _ = reader.release();
            }
        }
        while reader.begin() == Ok(Begun::Bytes) {
            received.extend(read_all(&mut reader));
        }
        prop_assert!(sent == received);
        prop_assert!(reader.is_empty());
    }

    /// A session that scribbles: the daemon's ends may find it corrupt, and nothing worse.
    #[test]
    fn scribbled_memory_never_panics(
        scribbles in proptest::collection::vec((any::<prop::sample::Index>(), scribble()), 1..300),
    ) {
        let sizes = QueueSizes {
            submission_bytes: SHARED_QUEUE_BYTES_MIN,
            delivery_bytes: SHARED_QUEUE_BYTES_MIN,
        };
        let region = Region::heap(sizes.region_bytes());
        let (mut reader, mut writer) = daemon_ends(region, sizes);
        let mut into = vec![0; SHARED_QUEUE_BYTES_MIN];
        for (place, value) in scribbles {
            // Mostly where it hurts: the control page and the first records.
            let words = reader.end.region.words();
            let word = [0, 16, 32, 48, 64, 80, 96, 112, 512, 513, 514, 2560][place.index(12)];
            words[word].store(value, Ordering::Relaxed);
            if let Ok(len) = reader.read(&mut into) {
                prop_assert!(len <= into.len());
            }
            let _ = reader.release();
            let _ = reader.is_empty();
            let _ = writer.write_some(&into[..100]);
            let _ = writer.publish();
        }
    }
}

/// Numbers that are likely to be near a bound.
fn scribble() -> impl Strategy<Value = u64> {
    let near = prop_oneof![Just(0_u64), Just(2048), Just(u64::MAX), Just(1 << 32), Just(2 << 32)];
    prop_oneof![
        (near, -9_i64..9).prop_map(|(near, off)| near.wrapping_add_signed(off)),
        (0_u64..4, 0_u64..20_000).prop_map(|(kind, len)| kind << 32 | len),
        any::<u64>(),
    ]
}

/// A frame on the shelf that the reader was handed as number `shelf`.
fn shelved(shelf: u32, first: u32, len: usize) -> Shelved {
    Shelved { shelf, first, len: len as u32 }
}

fn pages() -> (crate::sys::memfd::Memfd, Region) {
    crate::sys::memfd::Memfd::new_to_lend(4096).unwrap()
}

#[test]
fn what_lies_on_a_shelf_is_lent_from_there_and_given_back_at_once() {
    let (mut writer, mut reader) = pair(BYTES);
    let (memory, region) = pages();
    let mut shelf = crate::mem::Shelf::new(region);
    assert_eq!(shelf.put(b"first of all"), Some(0));
    assert_eq!(shelf.put(b"second"), Some(2));
    assert_eq!(shelf.put(&[0; 4096]), None);
    assert_eq!(writer.write(b"before"), Ok(true));
    assert_eq!(writer.write_shelved(shelved(0, 2, 6)), Ok(true));
    let position = writer.position();
    assert_eq!(writer.write(b"behind"), Ok(true));
    let _ = writer.publish();
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    reader.take(6);
    assert_eq!(reader.begin(), Ok(Begun::Shelf), "it was not handed over yet");
    assert_eq!(reader.begin(), Ok(Begun::Shelf));
    reader.add_shelf(Region::map_to_read(&memory, 4096).unwrap());
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    assert_eq!(reader.lent(), b"second");
    reader.take(3);
    assert_eq!(reader.lent(), b"ond");
    let _ = reader.release();
    assert!(!writer.has_given_back(position));
    reader.take(3);
    assert!(reader.should_release());
    let _ = reader.release();
    assert!(writer.has_given_back(position));
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    assert_eq!(reader.lent(), b"behind");
}

#[test]
fn lies_about_shelves_are_found_out() {
    for at in [shelved(0, 0, 4097), shelved(0, 512, 1), shelved(0, u32::MAX, 8)] {
        let (mut writer, mut reader) = pair(BYTES);
        let (memory, _region) = pages();
        reader.add_shelf(Region::map_to_read(&memory, 4096).unwrap());
        assert_eq!(writer.write_shelved(at), Ok(true));
        let _ = writer.publish();
        assert_eq!(reader.begin(), Err(Corrupt), "{at:?}");
    }
    // One that is forgotten, as more were handed over than need be known.
    let (mut writer, mut reader) = pair(BYTES);
    let (memory, _region) = pages();
    for _ in 0..=crate::mem::shelf::SHELVES_KNOWN {
        reader.add_shelf(Region::map_to_read(&memory, 4096).unwrap());
    }
    assert_eq!(writer.write_shelved(shelved(1, 0, 8)), Ok(true));
    assert_eq!(writer.write_shelved(shelved(0, 0, 8)), Ok(true));
    let _ = writer.publish();
    assert_eq!(reader.begin(), Ok(Begun::Bytes));
    reader.take(8);
    assert_eq!(reader.begin(), Err(Corrupt));
}

#[test]
fn a_session_has_no_shelves_for_its_daemon() {
    let (mut writer, mut reader) = pair(BYTES);
    assert_eq!(writer.write_shelved(shelved(0, 0, 8)), Ok(true));
    let _ = writer.publish();
    assert_eq!(reader.read(&mut [0; BYTES]), Err(Corrupt));
}

#[test]
fn asking_what_was_given_back_hides_no_room() {
    let (mut writer, mut reader) = pair(BYTES);
    while writer.write(&[1; 24]).unwrap() {}
    let _ = writer.publish();
    read_all(&mut reader);
    let _ = reader.release();
    assert!(writer.has_given_back(writer.position()));
    assert!(writer.has_new_room());
}
