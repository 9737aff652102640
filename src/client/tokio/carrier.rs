//! From an address to what carries a session, without blocking.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::io::Interest;
use tokio::net::{TcpStream, UnixStream, lookup_host};
use tokio::time::sleep;

use super::Stream;
use crate::client::attach::{self, AttachError};
use crate::client::connect::{
    Address, Carrier, resolve, set_tcp_options, shared_beside, unreachable, without_shared,
};
use crate::client::retry::Retry;
use crate::client::socket::Socket;
use crate::client::{ConnectError, Transport};

/// Both directions, and the connection that belongs to them.
pub(super) async fn connect(
    address: &Address,
    transport: Transport,
    mut room: Retry,
) -> Result<(Arc<Stream>, Carrier), ConnectError> {
    let why = match shared_beside(address, transport)? {
        Ok(path) => match attach_beside(path, &mut room).await {
            Ok(attached) => return Ok(attached),
            Err(error) => without_shared(&error, transport)?,
        },
        Err(why) => why.to_owned(),
    };
    let stream = Arc::new(match address {
        Address::Unix(path) => match connect_unix(path, &mut room).await {
            Ok(stream) => Stream::Unix(stream),
            Err(error) => return Err(unreachable(path.display().to_string(), error)),
        },
        Address::Tcp { host, port } => connect_tcp(host, *port).await?,
    });
    let socket = Socket::new(Arc::clone(&stream) as _);
    Ok((stream, Carrier::socket(socket, why)))
}

async fn attach_beside(
    path: &Path,
    room: &mut Retry,
) -> Result<(Arc<Stream>, Carrier), AttachError> {
    let attach = attach::attach_path(path);
    let stream = match connect_unix(&attach, room).await {
        Ok(stream) => stream,
        Err(error) => return Err(attach::unreachable(&attach, error)),
    };
    attach::check_user(&stream, path)?;
    socket2::SockRef::from(&stream).set_send_buffer_size(attach::BELL_BYTES)?;
    let stream = Arc::new(Stream::Unix(stream));
    let socket = Socket::new(Arc::clone(&stream) as _);
    attach::say_hello(&socket)?;
    let receive = || match attach::receive(&socket) {
        Err(AttachError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Err(error),
        result => Ok(result),
    };
    let (answer, memory) = stream.until(Interest::READABLE, receive).await??;
    let ends = attach::finish(socket, &answer, memory)?;
    Ok((stream, Carrier::shared(ends)))
}

/// Connects. Where the daemon's backlog is full a call that blocks waits for room, but of this one
/// the kernel tells nobody when there is some.
async fn connect_unix(path: &Path, room: &mut Retry) -> io::Result<UnixStream> {
    loop {
        let error = match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => error,
            result => return result,
        };
        match room.pause_after(&ConnectError::TimedOut) {
            Some(pause) => sleep(pause).await,
            None => return Err(error),
        }
    }
}

async fn connect_tcp(host: &str, port: u16) -> Result<Stream, ConnectError> {
    let addresses = lookup_host((host, port)).await.map_err(|error| resolve(host, error))?;
    let mut last = resolve(host, io::Error::from(io::ErrorKind::NotFound));
    for address in addresses {
        let attempt = async {
            let stream = TcpStream::connect(address).await?;
            set_tcp_options(&socket2::SockRef::from(&stream))?;
            Ok(Stream::Tcp(stream))
        };
        match attempt.await {
            Ok(stream) => return Ok(stream),
            Err(error) => last = unreachable(address.to_string(), error),
        }
    }
    Err(last)
}
