-- Which agents a run takes: labels that they must have, as JSON; empty where any will do.
ALTER TABLE runs ADD COLUMN selector TEXT NOT NULL DEFAULT '';

-- Whether a run ends when nobody follows it: 1 or 0.
ALTER TABLE runs ADD COLUMN attached BIGINT NOT NULL DEFAULT 1;

-- What stands beside a report: the line of it that lists show, as JSON, and the histograms behind it. An answer without
-- a report has none, and neither has a report of an older release.
CREATE TABLE figures (
    run TEXT NOT NULL,
    revision BIGINT NOT NULL,
    summary TEXT NOT NULL,
    distributions BLOB NOT NULL,
    checksum BIGINT NOT NULL,
    PRIMARY KEY (run, revision)
);
