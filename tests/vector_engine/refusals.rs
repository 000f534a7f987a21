//! What is refused, how, and that nothing of it happened.

use crate::world::{DIM, NAME, create, delete, info, open, put, spec, walk};
use arqondb::ErrorKind;
use arqondb::env::SimDisk;
use arqondb::op::Request;
use arqondb::op::kv::RequestId;
use arqondb::op::kv::Write;
use arqondb::op::vector::{
    Filter, Floats, IndexKind, IndexSpec, Metric, Quantisation, TextQuery, VectorAnswer,
    VectorCall, VectorId, VectorQuery, VectorSearch,
};

#[test]
fn vectors_that_have_no_distance_are_refused_and_the_batch_with_them() {
    let db = open(&SimDisk::new());
    create(&db, IndexSpec { metric: Metric::Cosine, ..spec(Metric::Cosine) });
    let one = [1.0; DIM];
    for (bad, says) in [
        (&[f32::NAN; DIM][..], "NaN"),
        (&[f32::INFINITY; DIM], "inf"),
        (&[0.0; DIM], "direction"),
        (&[1.0; DIM - 1], "7 dimensions"),
        (&[], "0 dimensions"),
    ] {
        let put = |id, vector: &[f32]| Write::PutVector {
            index: NAME.into(),
            id: VectorId::new(id),
            vector: Floats::of(vector),
            payload: Default::default(),
        };
        let batch = Request::Write { writes: vec![put(1, &one), put(2, bad)], id: None };
        let error = db.execute(batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
        assert!(error.message().contains(says) && error.message().contains("vector 2"), "{error}");
        let error = db.search_vectors(VectorSearch::new(NAME, bad, 1)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{error}");
    }
    for payload in ["[1]", "{", "1", "\"a\""] {
        let error = db.put_vector(NAME, 1, &one, payload.as_bytes()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{payload}");
    }
    assert!(walk(&db).is_empty());
}

#[test]
fn indexes_that_are_not_there_or_cannot_be_are_refused() {
    let db = open(&SimDisk::new());
    for refused in [
        db.execute(put(1, &[1.0; DIM], 1)).unwrap_err(),
        db.execute(delete(1)).unwrap_err(),
        db.search_vectors(VectorSearch::new(NAME, &[1.0; DIM], 1)).unwrap_err(),
        db.vectors(VectorCall::Drop { index: NAME.into() }).unwrap_err(),
        db.vectors(VectorCall::Describe { index: NAME.into() }).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::NotFound, "{refused}");
    }
    let base = spec(Metric::L2);
    let packed = Quantisation::Packed;
    for (wrong, kind) in [
        (IndexSpec { name: "a b".into(), ..base.clone() }, ErrorKind::InvalidArgument),
        (IndexSpec { dim: 0, ..base.clone() }, ErrorKind::InvalidArgument),
        (IndexSpec { dim: 70_000, ..base.clone() }, ErrorKind::InvalidArgument),
        (IndexSpec { m: 1, ..base.clone() }, ErrorKind::InvalidArgument),
        (IndexSpec { num_sub: 3, ..base.clone() }, ErrorKind::InvalidArgument),
        (IndexSpec { m: 40, quantisation: packed, ..base.clone() }, ErrorKind::InvalidArgument),
        (
            IndexSpec { kind: IndexKind::DiskHnsw, quantisation: packed, ..base.clone() },
            ErrorKind::InvalidArgument,
        ),
        (
            IndexSpec { kind: IndexKind::DiskHnsw, dim: 5_000, ..base.clone() },
            ErrorKind::InvalidArgument,
        ),
        (
            IndexSpec { kind: IndexKind::DiskHnsw, m: 32, ..base.clone() },
            ErrorKind::InvalidArgument,
        ),
    ] {
        let error = db.vectors(VectorCall::Create(wrong.clone())).unwrap_err();
        assert_eq!(error.kind(), kind, "{wrong:?}: {error}");
    }
    create(&db, base.clone());
    let again = db.vectors(VectorCall::Create(base)).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

#[test]
fn searches_out_of_bounds_are_refused() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    db.put_vector(NAME, 1, &[1.0; DIM], b"").unwrap();
    let base = VectorSearch::new(NAME, &[1.0; DIM], 1);
    for wrong in [
        VectorSearch { k: 0, ..base.clone() },
        VectorSearch { k: 10_001, ..base.clone() },
        VectorSearch { k: 10, offset: 9_991, ..base.clone() },
        VectorSearch { ef: 1 << 21, ..base.clone() },
        VectorSearch { distance_max: Some(f32::NAN), ..base.clone() },
        // Beside the other limit too.
        VectorSearch { distance_max: Some(1.0), score_min: Some(f32::NAN), ..base.clone() },
    ] {
        let error = db.search_vectors(wrong.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidArgument, "{wrong:?}");
    }
    let stored = VectorQuery::Stored(VectorId::new(9));
    let error = db.search_vectors(VectorSearch { query: stored, ..base }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert!(Filter::parse("{\"a\": null}").is_err());
}

#[test]
fn a_dropped_index_is_gone_at_once_and_its_name_free() {
    let disk = SimDisk::new();
    let db = open(&disk);
    let first = create(&db, spec(Metric::L2));
    for id in 0..200 {
        db.execute(put(id, &[id as f32; DIM], id)).unwrap();
    }
    db.settle_vectors();
    assert!(info(&db).disk_bytes > 0);
    assert_eq!(db.vectors(VectorCall::Drop { index: NAME.into() }).unwrap(), VectorAnswer::Done);
    assert_eq!(
        db.execute(put(1, &[1.0; DIM], 1)).unwrap_err().kind(),
        ErrorKind::NotFound,
        "a dropped index takes nothing"
    );
    let second = create(&db, IndexSpec { dim: 2, ..spec(Metric::InnerProduct) });
    assert!(second.id > first.id && second.vectors == 0);
    db.put_vector(NAME, 7, &[1.0, 2.0], b"").unwrap();
    db.settle_vectors();
    drop(db);
    let db = open(&disk);
    let stored: Vec<u64> = walk(&db).iter().map(|v| v.id).collect();
    assert_eq!((stored, info(&db).id), (vec![7], second.id));
    let third = {
        db.vectors(VectorCall::Drop { index: NAME.into() }).unwrap();
        drop(db);
        create(&open(&disk), spec(Metric::L2))
    };
    assert!(third.id > second.id, "a number is never given twice");
}

#[test]
fn what_does_not_fit_into_memory_is_refused() {
    let disk = SimDisk::new();
    let options = arqondb::Options {
        memory_budget_bytes: 8 << 20,
        ..crate::world::options(&disk, arqondb::SyncLevel::Os)
    };
    let db = arqondb::Db::open_with(crate::world::DIR, options).unwrap();
    create(&db, IndexSpec { dim: 4_096, ..spec(Metric::L2) });
    let refused =
        (0..1_000).find_map(|id| db.put_vector(NAME, id, &vec![id as f32; 4_096], b"").err());
    let refused = refused.unwrap();
    assert_eq!(refused.kind(), ErrorKind::Refused);
    assert!(refused.message().contains("memory budget"), "{refused}");
    assert!(info(&db).memory_bytes < 8 << 20);
    // Batches that began with a deletion were never asked whether they fit.
    let delete = |id| Write::DeleteVector { index: NAME.into(), id: VectorId::new(id) };
    let put = |id| Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(id),
        vector: Floats::of(&[1.0; 4_096]),
        payload: Default::default(),
    };
    let batch = |writes: Vec<Write>| db.execute(Request::Write { writes, id: None });
    let refused = (5_000..6_000).find_map(|id| batch(vec![delete(id), put(id)]).err());
    assert_eq!(refused.unwrap().kind(), ErrorKind::Refused);
    batch(vec![delete(0)]).unwrap();
}

#[test]
fn filters_cannot_ask_for_fields_without_end() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let of_fields = |fields: std::ops::Range<usize>| {
        let fields: Vec<String> = fields.map(|n| format!("\"x{n}\": 1")).collect();
        format!("{{{}}}", fields.join(", "))
    };
    db.put_vector(NAME, 1, &[1.0; DIM], of_fields(0..200).as_bytes()).unwrap();
    let ask = |filter: String| {
        let filter = Some(Filter::parse(&filter).unwrap());
        db.search_vectors(VectorSearch { filter, ..VectorSearch::new(NAME, &[1.0; DIM], 1) })
    };
    for n in 0..100 {
        assert_eq!(ask(format!("{{\"misspelt{n}\": 1}}")).unwrap().hits.len(), 0);
    }
    let error = ask(of_fields(0..65)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Refused, "{error}");
    assert_eq!(ask(of_fields(0..64)).unwrap().hits.len(), 1);
    // Of 64 that were known each kept its place for ever, and no filter could ask for another.
    for n in 0..200 {
        assert_eq!(ask(of_fields(n..n + 1)).unwrap().hits.len(), 1, "x{n}");
    }
}

/// Eight fields whose words were looked for kept their places for ever.
#[test]
fn words_are_looked_for_in_one_field_after_another() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let fields: Vec<String> = (0..20).map(|n| format!("\"f{n}\": \"word{n}\"")).collect();
    db.put_vector(NAME, 1, &[1.0; DIM], format!("{{{}}}", fields.join(", ")).as_bytes()).unwrap();
    for n in (0..20).chain(0..20) {
        let text = TextQuery { field: format!("f{n}"), text: format!("word{n}"), is_part: false };
        let search = VectorSearch { text: Some(text), ..VectorSearch::new(NAME, &[1.0; DIM], 1) };
        let found = db.search_vectors(search).unwrap();
        // First by its vector and first by its words.
        assert_eq!(found.hits[0].score, Some((2.0_f64 / 61.0) as f32), "f{n}");
    }
}

/// Each of its numbers was compared with all before it, and searches waited.
#[test]
fn a_payload_with_a_long_array_is_indexed_as_fast_as_it_is_read() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let numbers: Vec<String> = (0..60_000).map(|n| n.to_string()).collect();
    let payload = format!("{{\"a\": [{}]}}", numbers.join(","));
    for _ in 0..2 {
        db.put_vector(NAME, 7, &[1.0; DIM], payload.as_bytes()).unwrap();
        let filter = Some(Filter::parse("{\"a\": 59999}").unwrap());
        let search = VectorSearch { filter, ..VectorSearch::new(NAME, &[1.0; DIM], 1) };
        assert_eq!(db.search_vectors(search).unwrap().hits.len(), 1);
    }
}

#[test]
fn a_put_that_was_applied_is_told_so_when_its_index_has_gone_since() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let writes = vec![Write::PutVector {
        index: NAME.into(),
        id: VectorId::new(1),
        vector: Floats::of(&[1.0; DIM]),
        payload: Default::default(),
    }];
    let put = |request| {
        let id = Some(RequestId { client: 5, request });
        db.execute(Request::Write { writes: writes.clone(), id })
    };
    let first = put(1).unwrap();
    db.vectors(VectorCall::Drop { index: NAME.into() }).unwrap();
    assert_eq!(put(1).unwrap(), first);
    assert_eq!(put(2).unwrap_err().kind(), ErrorKind::NotFound);
}

#[test]
fn an_answer_that_no_message_carries_is_refused() {
    let db = open(&SimDisk::new());
    create(&db, spec(Metric::L2));
    let payload = format!("{{\"a\": \"{}\"}}", "x".repeat((1 << 20) - 16));
    for id in 0..64 {
        db.put_vector(NAME, id, &[id as f32; DIM], payload.as_bytes()).unwrap();
    }
    let search = |k| VectorSearch { with_payload: true, ..VectorSearch::new(NAME, &[0.0; DIM], k) };
    assert_eq!(db.search_vectors(search(50)).unwrap().hits.len(), 50);
    assert_eq!(db.search_vectors(search(64)).unwrap_err().kind(), ErrorKind::Refused);
    let get = |count| {
        let ids = (0..count).map(VectorId::new).collect();
        db.vectors(VectorCall::Get { index: NAME.into(), ids })
    };
    get(50).unwrap();
    assert_eq!(get(64).unwrap_err().kind(), ErrorKind::Refused);
}
