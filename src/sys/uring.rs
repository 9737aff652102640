//! The io_uring driver.

use std::io;

use super::bell::Bell;
use super::driver::{DriverCounts, Event, ListenerKey, OpenError, Options, StreamKey, Wait};
use super::socket::{Listener, Stream};
use crate::mem::pool::Slice;

#[derive(Debug)]
pub(super) enum UringDriver {}

impl UringDriver {
    pub(super) fn open(_: &Options, _: &mut Vec<(&'static str, bool)>) -> Result<Self, OpenError> {
        let missing = "not written yet".to_owned();
        Err(OpenError::IoUring { missing, remedy: "use mio".to_owned() })
    }
    pub(super) fn listen(&mut self, _: Listener) -> ListenerKey {
        match *self {}
    }
    pub(super) fn unlisten(&mut self, _: ListenerKey) {
        match *self {}
    }
    pub(super) fn attach(&mut self, _: Stream) -> StreamKey {
        match *self {}
    }
    pub(super) fn pause(&mut self, _: StreamKey) {
        match *self {}
    }
    pub(super) fn resume(&mut self, _: StreamKey) {
        match *self {}
    }
    pub(super) fn send<'a>(&mut self, _: StreamKey, _: impl Iterator<Item = &'a Slice>) {
        match *self {}
    }
    pub(super) fn sending(&self, _: StreamKey) -> bool {
        match *self {}
    }
    pub(super) fn close(&mut self, _: StreamKey) {
        match *self {}
    }
    pub(super) fn bell(&self) -> Bell {
        match *self {}
    }
    pub(super) fn ring(&mut self, _: &Bell) {
        match *self {}
    }
    pub(super) fn turn(&mut self, _: Wait) -> io::Result<()> {
        match *self {}
    }
    pub(super) fn ready(&mut self) -> bool {
        match *self {}
    }
    pub(super) fn next_event(&mut self) -> Option<Event<'_>> {
        match *self {}
    }
    pub(super) fn counts(&self) -> DriverCounts {
        match *self {}
    }
}
