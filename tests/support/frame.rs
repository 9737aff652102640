//! Frames of the client protocol as tests write and compare them.

use std::fmt;

use madrigal::base::GroupId;
use madrigal::base::limits::{FRAME_HEADER_BYTES, GROUP_NAME_BYTES};
use madrigal::wire::session::frame::{emit_hint, parse_hint};
use madrigal::wire::session::{self, ByteOrder, Header, Name, Regular, kind};

/// A whole frame, in either direction.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Frame(Vec<u8>);

impl Frame {
    /// What a client sends; `sender` is its private group.
    pub(crate) fn new(order: ByteOrder, kind: u32, sender: &str, groups: &[&str]) -> Self {
        let mut frame = Self(vec![0; FRAME_HEADER_BYTES]);
        for group in groups {
            frame.0.extend_from_slice(&field(group.as_bytes()));
        }
        frame.set_header(&Header {
            order,
            kind,
            name: field(sender.as_bytes()),
            destinations: groups.len() as i32,
            hint: emit_hint(0, order),
            data_len: 0,
        });
        frame
    }

    /// The same with data.
    pub(crate) fn with_data(mut self, data: &[u8]) -> Self {
        let mut header = self.header();
        assert_eq!(header.data_len, 0);
        header.data_len = data.len() as i32;
        self.0.extend_from_slice(data);
        self.set_header(&header);
        self
    }

    /// The same with another message type.
    pub(crate) fn with_type(mut self, message_type: i16) -> Self {
        let mut header = self.header();
        header.hint = emit_hint(message_type, header.order);
        self.set_header(&header);
        self
    }

    /// The same with a header that may lie.
    pub(crate) fn with_header(mut self, change: impl FnOnce(&mut Header)) -> Self {
        let mut header = self.header();
        change(&mut header);
        self.set_header(&header);
        self
    }

    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Self {
        assert!(bytes.len() >= FRAME_HEADER_BYTES, "a frame has a header");
        Self(bytes)
    }

    fn set_header(&mut self, header: &Header) {
        header.emit(self.0.first_chunk_mut().expect("a frame has a header"));
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    pub(crate) fn header(&self) -> Header {
        Header::parse(self.0.first_chunk().expect("a frame has a header"))
    }

    pub(crate) fn kind(&self) -> u32 {
        self.header().kind
    }

    /// The sender of a message, the group of a view.
    pub(crate) fn name(&self) -> String {
        text(&self.header().name)
    }

    /// Destinations of a message, members of a view.
    pub(crate) fn names(&self) -> Vec<String> {
        self.parse().names.iter().map(text).collect()
    }

    pub(crate) fn data(&self) -> &[u8] {
        self.parse().data
    }

    /// What the sender called the message type.
    pub(crate) fn message_type(&self) -> (i16, ByteOrder) {
        parse_hint(self.header().hint)
    }

    fn parse(&self) -> session::Frame<'_> {
        let (frame, len) = session::Frame::parse(&self.0).expect("legal").expect("whole");
        assert_eq!(len, self.0.len());
        frame
    }

    pub(crate) fn is_view(&self) -> bool {
        self.kind() & kind::REGULAR != 0
    }

    /// What a view says besides its members.
    pub(crate) fn view(&self) -> Regular<'_> {
        assert!(self.is_view(), "not a view: {self:?}");
        Regular::parse(self.header().order, self.data()).expect("a whole membership body")
    }

    pub(crate) fn group_id(&self) -> GroupId {
        self.view().id
    }

    /// Where the group id of a view lies in its bytes.
    pub(crate) fn group_id_at(&self) -> Option<usize> {
        self.is_view().then(|| self.0.len() - self.data().len())
    }

    /// The names of the one set in a view after a join, leave or disconnect.
    pub(crate) fn changed(&self) -> Vec<String> {
        let mut sets = self.view().sets();
        let set = sets.next().expect("a view has a set");
        assert!(sets.next().is_none(), "one set: {self:?}");
        set.map(|name| name.to_string()).collect()
    }

    /// Asserts that it is a view of `group` caused by `kind`, with these members.
    pub(crate) fn expect_view(&self, kind: u32, group: &str, members: &[&str], changed: &str) {
        assert_eq!(self.kind(), kind | kind::REGULAR, "{self:?}");
        assert_eq!(self.name(), group, "{self:?}");
        assert_eq!(self.names(), members, "{self:?}");
        assert_eq!(self.changed(), [changed], "{self:?}");
    }
}

/// A name field.
pub(crate) fn field(name: &[u8]) -> [u8; GROUP_NAME_BYTES] {
    let mut field = [0; GROUP_NAME_BYTES];
    field[..name.len()].copy_from_slice(name);
    field
}

fn text(field: &[u8; GROUP_NAME_BYTES]) -> String {
    Name::new(field).to_string()
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let header = self.header();
        let (message_type, hint_order) = self.message_type();
        write!(
            f,
            "{:?} 0x{:08x} from {:?}, hint {message_type} {hint_order:?}",
            header.order,
            header.kind,
            self.name(),
        )?;
        let Ok(Some((frame, _))) = session::Frame::parse(&self.0) else {
            let (names, data) = (header.destinations, header.data_len);
            return write!(f, ", {names} names, {data} bytes of data, malformed");
        };
        write!(f, ", names {:?}", self.names())?;
        if self.is_view()
            && let Some(view) = Regular::parse(header.order, frame.data)
        {
            let id = view.id;
            write!(f, ", id ({}, {}, {})", id.daemon, id.time, id.index)?;
            let sets: Vec<_> = view.sets().collect();
            return write!(f, ", sets {sets:?}, own {}", view.own_set());
        }
        let shown = &frame.data[..frame.data.len().min(40)];
        write!(f, ", {} bytes \"{}\"", frame.data.len(), shown.escape_ascii())
    }
}
