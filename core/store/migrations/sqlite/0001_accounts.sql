-- Written so that the sqlite3 shells of old systems can edit it: no STRICT, no unixepoch().
-- A constraint's name is what the shell prints when it is violated.

CREATE TABLE users (
    id            INTEGER PRIMARY KEY AUTOINCREMENT,
    name          TEXT    NOT NULL UNIQUE
        CONSTRAINT "name must be 1 to 255 bytes of text without colon and control characters" CHECK (
            typeof(name) = 'text'
            AND length(CAST(name AS BLOB)) BETWEEN 1 AND 255
            AND instr(name, ':') = 0
            AND instr(CAST(name AS BLOB), x'00') = 0
            AND name NOT GLOB '*[' || char(1) || '-' || char(31) || char(127) || '-' || char(159) || ']*'),
    password_hash TEXT
        CONSTRAINT "password_hash is made by 'swiftproxy user passwd NAME', or NULL: no password logs in" CHECK (
            password_hash IS NULL OR (typeof(password_hash) = 'text' AND password_hash LIKE '$%')),
    enabled       INTEGER NOT NULL DEFAULT 1
        CONSTRAINT "enabled is 1 or 0" CHECK (enabled IN (0, 1)),
    rate_up       INTEGER
        CONSTRAINT "rate_up is in bytes per second, 0 = unlimited, NULL = the default" CHECK (
            rate_up IS NULL OR (typeof(rate_up) = 'integer' AND rate_up >= 0)),
    rate_down     INTEGER
        CONSTRAINT "rate_down is in bytes per second, 0 = unlimited, NULL = the default" CHECK (
            rate_down IS NULL OR (typeof(rate_down) = 'integer' AND rate_down >= 0)),
    weight        INTEGER NOT NULL DEFAULT 1
        CONSTRAINT "weight is a whole number from 1 to 1000000" CHECK (
            typeof(weight) = 'integer' AND weight BETWEEN 1 AND 1000000),
    revision      INTEGER NOT NULL DEFAULT 1,
    created_at    INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER)),
    updated_at    INTEGER NOT NULL DEFAULT (CAST(strftime('%s', 'now') AS INTEGER))
);

-- What a node reads each second. `mark` tells one history from another that reached the same number.
CREATE TABLE changes (
    seq     INTEGER PRIMARY KEY AUTOINCREMENT,
    mark    INTEGER NOT NULL DEFAULT (random()),
    user_id INTEGER NOT NULL
);

CREATE TRIGGER users_after_insert AFTER INSERT ON users BEGIN
    INSERT INTO changes (user_id) VALUES (NEW.id);
    DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - 10000;
END;

-- Its own columns are left out of the list, or it would call itself.
CREATE TRIGGER users_after_update
AFTER UPDATE OF id, name, password_hash, enabled, rate_up, rate_down, weight ON users BEGIN
    INSERT INTO changes (user_id) SELECT OLD.id WHERE OLD.id <> NEW.id;
    INSERT INTO changes (user_id) VALUES (NEW.id);
    DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - 10000;
    UPDATE users SET revision = OLD.revision + 1, updated_at = CAST(strftime('%s', 'now') AS INTEGER)
    WHERE id = NEW.id;
END;

CREATE TRIGGER users_after_delete AFTER DELETE ON users BEGIN
    INSERT INTO changes (user_id) VALUES (OLD.id);
    DELETE FROM changes WHERE seq <= (SELECT max(seq) FROM changes) - 10000;
END;

-- Absolute counts of one process in one hour (unix seconds of its start); what a node writes together lies together.
CREATE TABLE usage (
    boot_id  TEXT    NOT NULL,
    node     TEXT    NOT NULL,
    user_id  INTEGER NOT NULL,
    hour     INTEGER NOT NULL,
    up       INTEGER NOT NULL,
    down     INTEGER NOT NULL,
    sessions INTEGER NOT NULL,
    PRIMARY KEY (boot_id, node, user_id, hour)
) WITHOUT ROWID;
