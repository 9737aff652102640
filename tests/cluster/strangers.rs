//! Packets that no daemon of the cluster sent, or sent long ago.
