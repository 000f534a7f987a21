//! `arqon`: server, client, monitor and repair kit in one program.

fn main() {}
