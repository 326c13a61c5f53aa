//! Tables, views and session options.

use expect_test::expect;
use polybolos_model::limits::{MAX_PLAN_BYTES, MAX_RELATIONS, MAX_SESSIONS};

use super::{Lab, check};
use crate::{
    Command, Rejection, RelationName,
    limits::{MAX_OPTION_BYTES, MAX_SESSION_OPTIONS},
};

#[test]
fn relations_are_made_replaced_and_dropped() {
    check(
        "table public.t
         table public.t
         table public.t keep=
         table public.t replace=
         view public.t replace=
         view public.v
         view public.v
         show relations
         drop view public.t
         drop table public.t
         drop table public.t
         drop table public.t if_exists=
         drop view public.v
         show relations",
        expect![[r#"
            table public.t
              created
            table public.t
              REJECTED table 'public.t' already exists
            table public.t keep=
              unchanged
            table public.t replace=
              replaced
            view public.t replace=
              REJECTED 'public.t' is a table, not a view
            view public.v
              created
            view public.v
              REJECTED view 'public.v' already exists
            show relations
              table public.t, view public.v at version 3
            drop view public.t
              REJECTED 'public.t' is a table, not a view
            drop table public.t
              dropped
            drop table public.t
              REJECTED table 'public.t' does not exist
            drop table public.t if_exists=
              unchanged
            drop view public.v
              dropped
            show relations
              nothing at version 5
        "#]],
    );
}

#[test]
fn sessions_live_by_their_options() {
    check(
        "set s a 1
         set s a 2; set s b 3
         show session s
         reset s a
         reset s a
         reset s b
         show session s
         reset s b
         set s a 1
         close s
         close s
         show session s",
        expect![[r#"
            set s a 1
              session set
            set s a 2; set s b 3
              session set
              session set
            show session s
              Some({"a": "2", "b": "3"})
            reset s a
              session set
            reset s a
              unchanged
            reset s b
              session set
            show session s
              None
            reset s b
              unchanged
            set s a 1
              session set
            close s
              session closed
            close s
              unchanged
            show session s
              None
        "#]],
    );
}

#[test]
fn names_definitions_and_options_are_bounded() {
    check(
        "table .t\n table public.",
        expect![[r#"
        table .t
          REJECTED schema and name of a table have 1 to 256 bytes each, not 0
        table public.
          REJECTED schema and name of a table have 1 to 256 bytes each, not 0
    "#]],
    );
    let mut lab = Lab::new();
    let name = RelationName { schema: "public".into(), name: "v".into() };
    let sql = "x".repeat(MAX_PLAN_BYTES + 1);
    let view = Command::CreateView { name, sql, or_replace: false, if_not_exists: false };
    assert!(matches!(lab.apply(vec![view]).outcomes[0], Err(Rejection::DefinitionTooLarge { .. })));
    let long = "x".repeat(MAX_OPTION_BYTES);
    expect!["REJECTED a session option has 8193 bytes; at most 8192 are allowed"]
        .assert_eq(lab.run(&format!("set s a {long}")).trim());
}

#[test]
fn the_catalogue_is_bounded() {
    let mut lab = Lab::new();
    let view = |n: usize| Command::CreateView {
        name: RelationName { schema: "public".into(), name: format!("v{n}") },
        sql: String::new(),
        or_replace: false,
        if_not_exists: false,
    };
    let applied = lab.apply((0..=MAX_RELATIONS).map(view).collect());
    assert_eq!(applied.outcomes.last(), Some(&Err(Rejection::TooManyRelations)));
    let set = |session: usize, key: usize| Command::SetSession {
        session: format!("s{session}").parse().unwrap(),
        key: format!("k{key}"),
        value: String::new(),
    };
    let applied = lab.apply((0..=MAX_SESSIONS).map(|n| set(n, 0)).collect());
    assert_eq!(applied.outcomes.last(), Some(&Err(Rejection::TooManySessions)));
    let applied = lab.apply((0..=MAX_SESSION_OPTIONS).map(|n| set(1, n)).collect());
    let session = "s1".parse().unwrap();
    assert_eq!(applied.outcomes.last(), Some(&Err(Rejection::TooManyOptions { session })));
    assert!(lab.apply(vec![set(1, 0)]).outcomes[0].is_ok());
}
