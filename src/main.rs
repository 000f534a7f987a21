//! `arqon`: server, client, monitor and repair kit in one program.

fn main() -> std::process::ExitCode {
    arqondb::cli::main()
}
