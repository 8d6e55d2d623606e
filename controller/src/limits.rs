//! Every bound of the control plane, by name.

use std::time::Duration;

/// Writes that wait for the sequencer; further writers wait in their own tasks.
pub(crate) const WRITE_QUEUE: usize = 1024;
/// Writes that become durable together.
pub(crate) const WRITE_BATCH: usize = 1024;
/// Commits that watchers can resume from without listing again.
pub(crate) const WATCH_TAIL_COMMITS: usize = 8192;
/// Size of the objects in those commits, as JSON.
pub(crate) const WATCH_TAIL_BYTES: usize = 64 << 20;
/// Size of an object as JSON.
pub(crate) const OBJECT_BYTES: usize = 1 << 20;
/// Levels of nesting of what clients send, and of what a patch may make of an object.
pub(crate) const OBJECT_DEPTH: usize = 32;
/// Events of one namespace.
pub(crate) const EVENTS_OF_NAMESPACE: usize = 4096;
/// Time that an event is kept since it happened last.
pub(crate) const EVENT_LIFETIME: Duration = Duration::from_secs(3600);
/// Time between two looks for events that are too old.
pub(crate) const EVENT_SWEEP: Duration = Duration::from_secs(30);
/// Length of the objects that are kept parsed, as JSON; parsed, they are about ten times as large.
pub(crate) const PARSED_BYTES: usize = 256 << 10;
/// Names and values of an object's annotations, as in Kubernetes.
pub(crate) const ANNOTATIONS_BYTES: usize = 256 << 10;
/// Texts of one kind that others of it are packed with.
pub(crate) const DICTIONARY_BYTES: usize = 8 << 10;
/// Objects that a page says follow it; of more, it does not say how many.
pub(crate) const REMAINING_COUNTED: usize = 5_000;
/// Commits a watcher reads at once.
pub(crate) const WATCH_BATCH_COMMITS: usize = 256;
/// Size of the objects in them, as JSON, above which it reads no more: what a slow watcher holds on to.
pub(crate) const WATCH_BATCH_BYTES: usize = 1 << 20;
/// Times a batch is judged again because another controller was faster.
pub(crate) const COMMIT_ATTEMPTS: usize = 16;
/// Revisions of others that are followed one by one; what is further behind loads all objects.
pub(crate) const CATCH_UP_REVISIONS: u64 = 65_536;
/// Room in a commit for what a row holds besides its objects.
pub(crate) const ROW_OVERHEAD_BYTES: usize = 4096;
/// The journal before the database's tables.
pub(crate) const JOURNAL_BYTES: usize = 8 << 20;
/// So much of it is applied to the tables at once; what waits is also in memory.
pub(crate) const JOURNAL_APPLY_BYTES: usize = 2 << 20;
/// Time in which little is applied, too.
pub(crate) const JOURNAL_APPLY_AFTER: Duration = Duration::from_millis(500);
/// Time between attempts to open the database again after an error of the disk.
pub(crate) const REOPEN_EVERY: Duration = Duration::from_secs(1);
/// Time in which etcd answers.
pub(crate) const ETCD_TIMEOUT: Duration = Duration::from_secs(3);
/// Times that etcd is asked, for each of its members: which one is asked is left to chance.
pub(crate) const ETCD_ATTEMPTS: usize = 4;
/// Time until another member of etcd is asked.
pub(crate) const ETCD_AGAIN: Duration = Duration::from_millis(20);
/// Time between pings of a connection to etcd.
pub(crate) const ETCD_PING: Duration = Duration::from_secs(2);
/// Time between looks at etcd's head, whatever its watch says.
pub(crate) const ETCD_LOOK: Duration = Duration::from_secs(1);
/// Time until a watch of etcd that failed is begun again.
pub(crate) const ETCD_PAUSE: Duration = Duration::from_millis(200);
/// Time that a controller gives way to one that lost a race with it, at first.
pub(crate) const GIVE_WAY: Duration = Duration::from_millis(20);
/// The same, to one that is slow.
pub(crate) const GIVE_WAY_MAX: Duration = Duration::from_millis(640);
/// Time that a read waits for a revision that another controller has.
pub(crate) const REACH: Duration = Duration::from_secs(3);
/// How long the lease of the managers lasts without being renewed.
pub(crate) const LEASE_LASTS: Duration = Duration::from_millis(1600);
/// How long its holder believes in it without having renewed it.
pub(crate) const LEASE_TRUST: Duration = Duration::from_millis(1200);
/// Time between its renewals.
pub(crate) const LEASE_RENEW: Duration = Duration::from_millis(300);
/// Time between looks whether it is free.
pub(crate) const LEASE_LOOK: Duration = Duration::from_millis(100);
/// Revisions the log keeps on disk.
pub(crate) const LOG_REVISIONS: u64 = 1_000_000;
/// How long the log keeps a revision on disk.
pub(crate) const LOG_AGE: Duration = Duration::from_secs(30 * 24 * 3600);
/// Time between looks at how old the log's oldest revision is.
pub(crate) const LOG_AGE_LOOK: Duration = Duration::from_secs(10);
/// Revisions forgotten at once, so that no writer waits long behind it.
pub(crate) const LOG_TRUNCATE_SLICE: u64 = 256;
/// Times a write is tried again when somebody was faster.
pub(crate) const WRITE_ATTEMPTS: usize = 16;
/// Times a generated name is drawn again when it is taken.
pub(crate) const NAME_ATTEMPTS: usize = 8;
/// Managers of an object's fields by update; older ones become one.
pub(crate) const UPDATE_MANAGERS: usize = 10;
/// Operations of a JSON patch.
pub(crate) const JSON_PATCH_OPERATIONS: usize = 1000;
/// Past states kept for listings that go on page by page.
pub(crate) const LIST_PAGES: usize = 64;
/// Reads of the past at a time; each walks through what happened since.
pub(crate) const PAST_READS: usize = 2;
/// Objects that such a read puts back to what they were.
pub(crate) const PAST_OBJECTS: usize = 100_000;
/// Objects a listing gives at once when the client names no limit.
pub(crate) const LIST_ITEMS: usize = 100_000;
/// Time between bookmarks of a quiet watch.
pub(crate) const BOOKMARK_EVERY: Duration = Duration::from_secs(60);
/// Events are sent in frames of about this size.
pub(crate) const WATCH_FRAME_BYTES: usize = 64 << 10;
/// How long a watch lasts at most.
pub(crate) const WATCH_LASTS: Duration = Duration::from_secs(3600);
/// Watches at a time.
pub(crate) const WATCHES: usize = 16_384;
/// Watches of tenants at a time: the rest is the platform's.
pub(crate) const TENANTS_WATCHES: usize = 15_360;
/// Watches of one tenant at a time.
pub(crate) const WATCHES_OF_FLOW: usize = 4096;
/// Requests at a time, watches apart: more than those of all tenants together, so that the platform
/// gets in.
pub(crate) const REQUESTS_IN_FLIGHT: usize = 1536;
/// Requests of nodes that are served at a time.
pub(crate) const AGENT_SEATS: usize = 64;
/// Requests of tenants that are served at a time, those for all objects of a kind apart.
pub(crate) const SEATS: usize = 256;
/// Requests of a level that wait.
pub(crate) const QUEUED: usize = 256;
/// Those of one tenant.
pub(crate) const QUEUED_OF_FLOW: usize = 128;
/// How long a request waits until it is served, at most.
pub(crate) const QUEUE_PATIENCE: Duration = Duration::from_secs(15);
/// Requests of tenants for all objects of a kind, until their answers are taken.
pub(crate) const ANSWERS: usize = 256;
/// Those of one tenant.
pub(crate) const ANSWERS_OF_FLOW: usize = 32;
/// Bodies of tenants' requests that are on their way.
pub(crate) const BODIES: usize = 256;
/// Those of one tenant.
pub(crate) const BODIES_OF_FLOW: usize = 128;
/// Connections at a time.
pub(crate) const CONNECTIONS: usize = 16_384;
/// Backups at a time: each holds on to a state of the database.
pub(crate) const BACKUPS: usize = 1;
/// How long a backup takes at most.
pub(crate) const BACKUP_LASTS: Duration = Duration::from_secs(3600);
/// A backup is sent in chunks of about this size.
pub(crate) const BACKUP_CHUNK_BYTES: usize = 64 << 10;
/// Chunks of a backup that wait to be sent.
pub(crate) const BACKUP_CHUNKS: usize = 4;
/// Length of the line that says what a backup is.
pub(crate) const BACKUP_LINE_BYTES: usize = 4096;
/// Size of a key or value in a backup.
pub(crate) const BACKUP_FRAME_BYTES: usize = 256 << 20;
/// Revisions that a restored store leaves out, so that none is given out twice: more than a controller
/// makes in a day.
pub(crate) const RESTORE_SKIPS: u64 = 1_000_000_000;
/// Size of a request's body.
pub(crate) const BODY_BYTES: usize = 1 << 20;
/// Size from which an answer has to be taken, or its reader is disconnected: smaller ones are in the
/// buffers of the connection at once.
pub(crate) const PACED_FROM: usize = 64 << 10;
/// Size from which an answer is compressed for those who take it so.
pub(crate) const GZIP_FROM: usize = 128 << 10;
/// Size of an answer as YAML: it is held whole, twice.
pub(crate) const YAML_ANSWER: usize = 4 << 20;
/// Size of a request's head.
pub(crate) const HEADER_BYTES: usize = 16 << 10;
/// Time in which a request is answered, watches apart.
pub(crate) const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Time in which a client finishes its TLS handshake, or a scraper sends its request.
pub(crate) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Time that requests get to finish when the server stops.
pub(crate) const SHUTDOWN_GRACE: Duration = Duration::from_secs(10);
/// Time between pings of an HTTP/2 connection: finds clients that are gone.
pub(crate) const HTTP2_PING: Duration = Duration::from_secs(30);
/// Tokens of a user or service account.
pub(crate) const TOKENS_OF_ACCOUNT: usize = 64;
/// Audiences that a token is for.
pub(crate) const TOKEN_AUDIENCES: usize = 8;
/// Permissions that a token is narrowed to.
pub(crate) const TOKEN_PERMISSIONS: usize = 64;
/// Connections to the metrics endpoint at a time.
pub(crate) const SCRAPERS: usize = 16;
/// Objects the garbage collector has yet to look at; beyond, it looks at everything again.
pub(crate) const GC_QUEUE: usize = 65_536;
/// Objects it deals with at a time.
pub(crate) const GC_BATCH: usize = 64;
/// Objects it looks at at once when it looks at everything.
pub(crate) const GC_SCAN: usize = 4096;
/// Dependents it looks at to find a circle of owners.
pub(crate) const GC_CIRCLE: usize = 256;
/// Audit records a second that change nothing, of everybody together.
pub(crate) const AUDIT_PER_SECOND: i64 = 200;
/// The same, at once.
pub(crate) const AUDIT_BURST: i64 = 1000;
/// Audit records a second that change nothing, of one actor.
pub(crate) const AUDIT_PER_SECOND_OF_ACTOR: i64 = 10;
/// The same, at once.
pub(crate) const AUDIT_BURST_OF_ACTOR: i64 = 50;
/// Actors whose records are counted apart.
pub(crate) const AUDIT_ACTORS: usize = 4096;
/// Time between two looks for grants that have ended.
pub(crate) const GRANT_LOOK: Duration = Duration::from_secs(1);
/// Secrets sealed anew at a time.
pub(crate) const RESEAL_AT_ONCE: usize = 16;
/// Time between two times of that: 320 Secrets a second at most.
pub(crate) const RESEAL_EVERY: Duration = Duration::from_millis(50);
/// Time between two looks for Secrets under a former key, and for what the past needs.
pub(crate) const RESEAL_LOOK: Duration = Duration::from_secs(30);
/// Revisions looked through at once for keys that the past needs.
pub(crate) const RESEAL_SCAN: u64 = 4096;
/// Blocks of the log that one search passes over at once by their summaries.
pub(crate) const AUDIT_BLOCKS: u64 = 4096;
/// Revisions that one search looks at.
pub(crate) const AUDIT_SCAN: usize = 20_000;
/// Records that one search gives.
pub(crate) const AUDIT_ITEMS: usize = 500;
