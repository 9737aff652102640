//! What befell others, and what a reader of the Totem papers would ask, as runs with a name.

mod groups;
mod lab;
mod order;
