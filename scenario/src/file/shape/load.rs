//! Loads.

use super::{LENGTH, PER_TIME, Shape, Type, key, required, shape};

const USERS: Type = Type::AnyOf(&[Type::Integer, Type::Object(&USERS_RAMP), Type::Object(&USERS_STAGES)]);
const RATES: Type = Type::AnyOf(&[PER_TIME, Type::Object(&RATE_RAMP), Type::Object(&RATE_STAGES)]);

pub(in crate::file) static LOAD: Shape = Shape {
    name: "load",
    doc: "One of `users`, `rate`, `iterations`, `sweep` or `search`. (`iterations` may have `users` beside it.)",
    keys: &[
        key("users", USERS, "Closed model: so many users, each starting its next iteration when the last has ended."),
        key("rate", RATES, "Open model: iterations a second, started on schedule however slow the target is."),
        key(
            "iterations",
            Type::AnyOf(&[Type::Integer, Type::Object(&ITERATIONS)]),
            "A fixed number of iterations, shared by `users` (default 1).",
        ),
        key("sweep", Type::Object(&SWEEP), "One level after another, each for `for`; the report has a row for each."),
        key(
            "search",
            Type::Object(&SEARCH),
            "The greatest level that keeps the thresholds, for `groundswell search`; each step takes `for`.",
        ),
        key("for", LENGTH, "How long (of each level, for a sweep). For iterations: the limit, by default 10m."),
        key(
            "warm_up",
            LENGTH,
            "The first part of `for`, which is kept out of the figures (of each level, for a sweep). Default: none.",
        ),
        key(
            "grace",
            LENGTH,
            "How long operations in flight may go on after the end before they are cut off. Default: 30s.",
        ),
        key(
            "arrivals",
            Type::Choice(&["uniform", "poisson"]),
            "How the arrivals of a rate are spaced. Default: uniform.",
        ),
        key(
            "max_in_flight",
            Type::Integer,
            "Most iterations of a rate at the same time over all agents. Default: 1000.",
        ),
        key(
            "queue",
            Type::Integer,
            "Most arrivals of a rate that wait beyond it, over all agents; more are shed. Default: as `max_in_flight`.",
        ),
    ],
    one_of: &[],
};

pub(in crate::file) static USERS_RAMP: Shape = shape(
    "users_ramp",
    "From one number of users to another.",
    &[
        key("from", Type::Integer, "Users at the start. Default: 0."),
        required("to", Type::Integer, "Users at the end."),
    ],
);

pub(in crate::file) static USERS_STAGES: Shape = shape(
    "users_stages",
    "Ramps one after another.",
    &[
        key("start", Type::Integer, "Users at the start. Default: 0."),
        required("stages", Type::List(&Type::Object(&USERS_STAGE)), "The ramps."),
    ],
);

pub(in crate::file) static USERS_STAGE: Shape = shape(
    "users_stage",
    "One ramp.",
    &[required("to", Type::Integer, "Users at its end."), required("for", LENGTH, "Its length.")],
);

pub(in crate::file) static RATE_RAMP: Shape = shape(
    "rate_ramp",
    "From one rate to another.",
    &[key("from", PER_TIME, "Rate at the start. Default: 0/s."), required("to", PER_TIME, "Rate at the end.")],
);

pub(in crate::file) static RATE_STAGES: Shape = shape(
    "rate_stages",
    "Ramps one after another.",
    &[
        key("start", PER_TIME, "Rate at the start. Default: 0/s."),
        required("stages", Type::List(&Type::Object(&RATE_STAGE)), "The ramps."),
    ],
);

pub(in crate::file) static RATE_STAGE: Shape = shape(
    "rate_stage",
    "One ramp.",
    &[required("to", PER_TIME, "Rate at its end."), required("for", LENGTH, "Its length.")],
);

pub(in crate::file) static ITERATIONS: Shape = Shape {
    name: "iterations",
    doc: "A fixed number of iterations.",
    keys: &[
        key("shared", Type::Integer, "In all, taken by whichever user is free."),
        key("per_user", Type::Integer, "For each user."),
    ],
    one_of: &["shared", "per_user"],
};

pub(in crate::file) static SWEEP: Shape = Shape {
    name: "sweep",
    doc: "The levels of a sweep.",
    keys: &[
        key("users", Type::List(&Type::Integer), "Numbers of users."),
        key("rate", Type::List(&PER_TIME), "Rates."),
    ],
    one_of: &["users", "rate"],
};

pub(in crate::file) static SEARCH: Shape = Shape {
    name: "search",
    doc: "What is searched, and where.",
    keys: &[
        key("users", Type::Object(&SEARCH_USERS), "The greatest number of users."),
        key("rate", Type::Object(&SEARCH_RATE), "The greatest rate."),
        key("within", Type::Scalar, "How exactly: the search ends when the level is known to this part. Default: 5%."),
    ],
    one_of: &["users", "rate"],
};

pub(in crate::file) static SEARCH_USERS: Shape = shape(
    "search_users",
    "Numbers of users to search among.",
    &[
        required("from", Type::Integer, "The least that is tried."),
        required("to", Type::Integer, "The greatest that is tried."),
    ],
);

pub(in crate::file) static SEARCH_RATE: Shape = shape(
    "search_rate",
    "Rates to search among.",
    &[required("from", PER_TIME, "The least that is tried."), required("to", PER_TIME, "The greatest that is tried.")],
);
