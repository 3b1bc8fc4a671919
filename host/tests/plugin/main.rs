//! Components across the border: what crosses it in each call, and what is refused there.

mod handmade;
mod join;
mod kit;
mod migration;
mod process;
mod verified_run;
mod verify;
mod window;
