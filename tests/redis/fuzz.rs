//! Random bytes as arguments: no command may panic, and an error reply changes nothing (the
//! model checks that).

use crate::model::Model;
use crate::random::random_call;
use arqondb::env::Rng;
use arqondb::op::command::{COMMANDS, Place, Spec};
use bytes::Bytes;

const CALLS: usize = 60_000;

#[test]
fn no_arguments_make_a_command_panic() {
    let mut rng = Rng::new(2026);
    let specs: Vec<&'static Spec> = COMMANDS
        .iter()
        .flat_map(|spec| std::iter::once(*spec).chain(spec.subcommands))
        .filter(|spec| spec.place == Place::Data && spec.subcommands.is_empty())
        .collect();
    let mut model = Model::at(1_700_000_000_000);
    for _ in 0..CALLS {
        let spec = specs[rng.below(specs.len() as u64) as usize];
        let mut args: Vec<Bytes> =
            spec.name.split('|').map(|word| Bytes::from_static(word.as_bytes())).collect();
        for _ in 0..rng.below(6) {
            let mut arg = vec![0; rng.below(12) as usize];
            rng.fill(&mut arg);
            args.push(arg.into());
        }
        model.call(&args);
    }
}

#[test]
fn plausible_calls_do_not_panic_either() {
    let mut rng = Rng::new(7);
    let mut model = Model::at(1_700_000_000_000);
    for i in 0..CALLS {
        model.call(&random_call(&mut rng));
        if i % 500 == 0 {
            model = Model::at(model.now_ms + 1000);
        }
    }
}
