import { WeirError } from '../errors.js'
import type { Database } from './sqlite-driver.js'

/** Which rows of `jobs` have ended. */
export const ENDED = "state IN ('Completed', 'Failed', 'Stopped')"

/**
 * Each entry brings the database from the version that is its index to the next. Never change one that was released;
 * append. Records are JSON in `body`; the other columns are what is searched.
 */
const MIGRATIONS: readonly string[] = [
  `
  CREATE TABLE store (revision INTEGER NOT NULL);
  INSERT INTO store VALUES (0);
  CREATE TABLE jobs (
    id TEXT PRIMARY KEY, namespace TEXT NOT NULL, state TEXT NOT NULL, created INTEGER NOT NULL,
    modified INTEGER NOT NULL, token TEXT, active INTEGER NOT NULL, body TEXT NOT NULL
  ) WITHOUT ROWID;
  CREATE INDEX jobs_created ON jobs (created, id);
  CREATE INDEX jobs_modified ON jobs (modified, id);
  CREATE INDEX jobs_active ON jobs (id) WHERE active = 1;
  CREATE INDEX jobs_token ON jobs (token) WHERE token IS NOT NULL;
  CREATE TABLE executions (
    ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, job TEXT NOT NULL, body TEXT NOT NULL
  );
  CREATE INDEX executions_job ON executions (job, ordinal);
  CREATE TABLE evaluations (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE nodes (id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
  CREATE TABLE history (
    job TEXT NOT NULL, sequence INTEGER NOT NULL, execution TEXT, time INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (job, sequence)
  ) WITHOUT ROWID;
  `,
  `CREATE INDEX jobs_ended ON jobs (modified, id, active) WHERE ${ENDED};`,
  // Names address jobs, and versions of jobs begin with 1.
  `
  ALTER TABLE jobs ADD COLUMN name TEXT;
  UPDATE jobs SET body = json_set(body, '$.version', 1) WHERE json_extract(body, '$.version') < 1;
  UPDATE history SET body = json_set(body, '$.jobVersion', 1) WHERE json_extract(body, '$.jobVersion') < 1;
  UPDATE jobs SET name = json_extract(body, '$.spec.Name') WHERE json_extract(body, '$.spec.Name') NOT IN ('', id);
  CREATE INDEX jobs_name ON jobs (name, namespace, created) WHERE name IS NOT NULL;
  CREATE TABLE job_versions (
    job TEXT NOT NULL, version INTEGER NOT NULL, token TEXT, body TEXT NOT NULL, PRIMARY KEY (job, version)
  ) WITHOUT ROWID;
  CREATE INDEX job_versions_token ON job_versions (token) WHERE token IS NOT NULL;
  `,
  // Pages of jobs are found without reading the jobs that are not on them; labels lead to jobs.
  `
  DROP INDEX jobs_created;
  DROP INDEX jobs_modified;
  CREATE INDEX jobs_created ON jobs (created, id, namespace, state);
  CREATE INDEX jobs_modified ON jobs (modified, id, namespace, state);
  CREATE TABLE job_labels (
    key TEXT NOT NULL, value TEXT NOT NULL, job TEXT NOT NULL, PRIMARY KEY (key, value, job)
  ) WITHOUT ROWID;
  INSERT INTO job_labels
    SELECT label.key, label.value, jobs.id FROM jobs, json_each(jobs.body, '$.spec.Labels') AS label;
  CREATE INDEX job_labels_job ON job_labels (job);
  `,
  // Rows lie by the age of their jobs instead of their ids, which are random: what is written together lies together.
  `
  CREATE TABLE aged_jobs (
    number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, namespace TEXT NOT NULL, name TEXT, state TEXT NOT NULL,
    created INTEGER NOT NULL, modified INTEGER NOT NULL, token TEXT, active INTEGER NOT NULL, body TEXT NOT NULL
  );
  INSERT INTO aged_jobs (id, namespace, name, state, created, modified, token, active, body)
    SELECT id, namespace, name, state, created, modified, token, active, body FROM jobs ORDER BY created, id;
  CREATE TABLE aged_executions (
    ordinal INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, job INTEGER NOT NULL, body TEXT NOT NULL
  );
  INSERT INTO aged_executions SELECT e.ordinal, e.id, j.number, e.body
    FROM executions e JOIN aged_jobs j ON j.id = e.job ORDER BY e.ordinal;
  CREATE TABLE aged_history (
    job INTEGER NOT NULL, sequence INTEGER NOT NULL, execution TEXT, time INTEGER NOT NULL, body TEXT NOT NULL,
    PRIMARY KEY (job, sequence)
  ) WITHOUT ROWID;
  INSERT INTO aged_history SELECT j.number, h.sequence, h.execution, h.time, h.body
    FROM aged_jobs j JOIN history h ON h.job = j.id ORDER BY j.number, h.sequence;
  CREATE TABLE aged_labels (
    key TEXT NOT NULL, value TEXT NOT NULL, job INTEGER NOT NULL, PRIMARY KEY (key, value, job)
  ) WITHOUT ROWID;
  INSERT INTO aged_labels SELECT l.key, l.value, j.number FROM job_labels l JOIN aged_jobs j ON j.id = l.job;
  DROP TABLE jobs;
  DROP TABLE executions;
  DROP TABLE history;
  DROP TABLE job_labels;
  ALTER TABLE aged_jobs RENAME TO jobs;
  ALTER TABLE aged_executions RENAME TO executions;
  ALTER TABLE aged_history RENAME TO history;
  ALTER TABLE aged_labels RENAME TO job_labels;
  CREATE INDEX jobs_created ON jobs (created, id, namespace, state);
  CREATE INDEX jobs_modified ON jobs (modified, id, namespace, state);
  CREATE INDEX jobs_active ON jobs (number) WHERE active = 1;
  CREATE INDEX jobs_token ON jobs (token) WHERE token IS NOT NULL;
  CREATE INDEX jobs_ended ON jobs (modified, id, active) WHERE ${ENDED};
  CREATE INDEX jobs_name ON jobs (name, namespace, created) WHERE name IS NOT NULL;
  CREATE INDEX executions_job ON executions (job, ordinal);
  CREATE INDEX job_labels_job ON job_labels (job);
  `,
]

/** The version of the tables that this program writes. */
export const SCHEMA_VERSION = MIGRATIONS.length

/** Brings the tables up to date, all or nothing. Throws `store.unavailable` for tables of a newer program. */
export function migrate(database: Database, path: string): void {
  const found = Number(database.pragma('user_version', { simple: true }))
  if (found > SCHEMA_VERSION) {
    throw new WeirError(
      'store.unavailable',
      `Cannot open the database "${path}": it has schema version ${found}, this program knows up to ${SCHEMA_VERSION}`,
      {
        hint: 'Use the newer weir that wrote it, or another data directory.',
        details: { found, known: SCHEMA_VERSION },
      },
    )
  }
  if (found === SCHEMA_VERSION) return
  database.transaction(() => {
    for (const migration of MIGRATIONS.slice(found)) database.exec(migration)
    database.pragma(`user_version = ${SCHEMA_VERSION}`)
  })()
}
