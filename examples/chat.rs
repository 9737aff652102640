//! A chat in one group: what is typed goes to everybody, and what anybody types is shown.
//!
//! ```text
//! cargo run --example chat -- alice            # in one terminal
//! cargo run --example chat -- bob              # in another
//! ```

use madrigal::client::{Event, Options, Service, Session};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let name = arguments.next().unwrap_or_default();
    let address = arguments.next().unwrap_or_default();

    let (mut outbox, mut inbox) = Session::connect(&address, &Options::new().name(name))?.split();
    outbox.join("chat")?;
    let shower = std::thread::spawn(move || {
        while let Ok(event) = inbox.receive() {
            match event {
                Event::Message(message) => {
                    let text = String::from_utf8_lossy(message.data());
                    println!("{}: {text}", message.sender());
                }
                Event::View(view) => println!("* here now: {:?}", view.members()),
                Event::Transitional { .. } => println!("* the network is changing"),
                Event::SelfLeave { .. } | Event::Rejected(_) => {}
            }
        }
    });
    for line in std::io::stdin().lines() {
        outbox.multicast(Service::Agreed, &["chat"], 0, line?.as_bytes())?;
    }
    outbox.disconnect()?;
    shower.join().map_err(|_| "the receiving thread panicked")?;
    Ok(())
}
