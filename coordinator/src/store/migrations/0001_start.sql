-- One schema for both databases: BLOB is read as BYTEA for PostgreSQL. A checksum is over the other columns of its row
-- (checksum.rs), because SQLite has none of its own. Times: calendar_us and *_at_us are microseconds since 1970 (UTC),
-- monotonic_us are those of the coordinator's clock.

-- One row: how often a coordinator has started on this store.
CREATE TABLE store (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    term BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);

-- One row: a random number that tells this store from any other.
CREATE TABLE identity (
    one BIGINT NOT NULL PRIMARY KEY CHECK (one = 1),
    number BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);

-- Each start of an agent that registered. The boot is 64 random bits, kept as a signed number.
CREATE TABLE incarnations (
    number BIGINT NOT NULL PRIMARY KEY,
    agent TEXT NOT NULL,
    boot BIGINT NOT NULL,
    checksum BIGINT NOT NULL,
    UNIQUE (agent, boot)
);

-- What was submitted. A run's entries are those of its log; compaction writes them anew into another log, and the
-- change of this one number is what makes it true.
CREATE TABLE runs (
    id TEXT NOT NULL PRIMARY KEY,
    log BIGINT NOT NULL UNIQUE,
    compacted BIGINT NOT NULL,
    submission TEXT NOT NULL UNIQUE,
    name TEXT NOT NULL,
    plan_hash TEXT NOT NULL,
    plan BLOB NOT NULL,
    labels TEXT NOT NULL,
    agents_wanted BIGINT NOT NULL,
    wait_ms BIGINT NOT NULL,
    submitted_at_us BIGINT NOT NULL,
    checksum BIGINT NOT NULL
);

-- What changed a run, in order. An event has no agent; a delta has one seq; an interval has those from first_seq to seq
-- and the hash of each, 16 bytes after 16 bytes.
CREATE TABLE entries (
    log BIGINT NOT NULL,
    n BIGINT NOT NULL,
    monotonic_us BIGINT NOT NULL,
    calendar_us BIGINT NOT NULL,
    agent TEXT,
    incarnation BIGINT,
    first_seq BIGINT,
    seq BIGINT,
    hashes BLOB,
    bytes BLOB NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (log, n),
    UNIQUE (log, agent, incarnation, seq)
);

-- Answers that were given. A revision never changes; a later answer is a later revision.
CREATE TABLE reports (
    run TEXT NOT NULL REFERENCES runs (id),
    revision BIGINT NOT NULL,
    exit_code BIGINT NOT NULL,
    finished_at_us BIGINT NOT NULL,
    report BLOB,
    problem TEXT,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (run, revision),
    CHECK ((report IS NULL) <> (problem IS NULL))
);

-- Logs that no run has any more, or not yet: their entries are being deleted, a few at a time.
CREATE TABLE dropped_logs (
    log BIGINT NOT NULL PRIMARY KEY
);
