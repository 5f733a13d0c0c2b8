//! Every table there is, so that no two share a number. A number is never used again for another purpose.

use crate::TableId;

macro_rules! tables {
    ($($(#[$doc:meta])* $name:ident = $id:literal;)*) => {
        $($(#[$doc])* pub const $name: TableId = TableId($id);)*

        /// All of them, with their names.
        pub const ALL: &[(TableId, &str)] = &[$(($name, stringify!($name))),*];
    };
}

tables! {
    /// The node's own facts: format of the data directory, ids.
    NODE = 0x0001;
    /// Deliveries that are due: lane, commit order.
    OUTBOX = 0x0010;
    /// Deliveries that wait for their next try: due time, commit order.
    OUTBOX_DELAYED = 0x0011;
    /// Where each lane's reader stands.
    OUTBOX_CURSORS = 0x0012;

    /// Accounts (rows of the node).
    ACCOUNTS = 0x0100;
    /// Access keys by id (rows of the node).
    ACCESS_KEYS = 0x0101;
    /// Users.
    USERS = 0x0102;
    /// Roles.
    ROLES = 0x0103;
    /// Managed policies.
    POLICIES = 0x0104;
    /// Inline and attached policies by their holder.
    ATTACHMENTS = 0x0105;
    /// The node's keys that sign session tokens (rows of the node).
    SESSION_KEYS = 0x0106;

    /// Buckets by name (rows of the node: names are global).
    BUCKETS = 0x0200;
    /// Objects.
    OBJECTS = 0x0201;
    /// Multipart uploads.
    UPLOADS = 0x0202;
    /// Their parts.
    UPLOAD_PARTS = 0x0203;
    /// Bytes of small objects.
    OBJECT_DATA = 0x0204;
    /// Blobs that are no longer referred to, until they are removed.
    BLOB_GARBAGE = 0x0205;
    /// An account's buckets.
    ACCOUNT_BUCKETS = 0x0206;
    /// Blobs that an upload under way is writing, so that a crash leaves none behind.
    BLOB_PENDING = 0x0207;
    /// Versions of objects that are not the current one, and delete markers.
    OBJECT_VERSIONS = 0x0208;
    /// Where an object's null version is, if it is among those.
    OBJECT_NULLS = 0x0209;
    /// What is known of the key that objects are sealed with (a row of the node).
    OBJECT_KEYS = 0x020A;
    /// Buckets with lifecycle rules (rows of the node).
    BUCKET_CHORES = 0x020B;
    /// Where the checking of blobs stands, and which are damaged (rows of the node).
    BLOB_CHECKS = 0x020C;
    /// Where a node's blobs are, if not in its data directory (a row of the node).
    BLOB_PLACES = 0x02F0;

    /// DynamoDB tables.
    DDB_TABLES = 0x0300;
    /// DynamoDB items.
    DDB_ITEMS = 0x0301;
    /// DynamoDB tables that were deleted and whose items are still to be removed (rows of the node).
    DDB_DROPPED = 0x0302;
    /// Client request tokens of DynamoDB transactions, by the time at which they end.
    DDB_TOKENS = 0x0303;
    /// Entries of DynamoDB's secondary indexes.
    DDB_ENTRIES = 0x0304;
    /// DynamoDB items that are being entered into something made after them (rows of the node).
    DDB_BACKFILLS = 0x0305;
    /// Streams of DynamoDB tables.
    DDB_STREAMS = 0x0306;
    /// Records of DynamoDB streams, in commit order.
    DDB_STREAM_RECORDS = 0x0307;
    /// Up to where the records of DynamoDB streams have been trimmed.
    DDB_STREAM_HEADS = 0x0308;
    /// DynamoDB items by the time at which they expire (rows of the node).
    DDB_EXPIRY = 0x0309;
    /// What DynamoDB items were before they changed, for backups and recovery to a point in time.
    DDB_HISTORY = 0x030A;
    /// Backups of DynamoDB tables.
    DDB_BACKUPS = 0x030B;
    /// DynamoDB tables that are being restored (rows of the node).
    DDB_RESTORES = 0x030C;
    /// Up to where the history of DynamoDB tables has been trimmed.
    DDB_HISTORY_HEADS = 0x030D;
    /// Exports of DynamoDB tables.
    DDB_EXPORTS = 0x030E;
    /// Files of exports that are under way.
    DDB_EXPORT_FILES = 0x030F;
    /// Imports of DynamoDB tables.
    DDB_IMPORTS = 0x0310;
    /// Exports and imports that are under way (rows of the node).
    DDB_TRANSFERS = 0x0311;
    /// What incremental exports have gathered of changes.
    DDB_EXPORT_CHANGES = 0x0312;
    /// Sizes of DynamoDB item collections.
    DDB_COLLECTIONS = 0x0313;

    /// Functions.
    FUNCTIONS = 0x0400;
    /// Published versions of functions.
    FUNCTION_VERSIONS = 0x0401;
    /// Resource policies of functions.
    FUNCTION_POLICIES = 0x0402;
    /// Event invoke configurations.
    FUNCTION_EVENT_CONFIGS = 0x0403;
    /// Idempotent outcomes of invocations.
    FUNCTION_OUTCOMES = 0x0404;
    /// Deployment packages by digest, and how many functions use each.
    FUNCTION_CODE = 0x0405;
    /// Blobs of packages that no function uses: being uploaded, or to be removed.
    FUNCTION_CODE_UNUSED = 0x0406;
    /// What an account's functions add up to.
    FUNCTION_TOTALS = 0x0407;
    /// Aliases of functions.
    FUNCTION_ALIASES = 0x0408;
    /// URLs of functions.
    FUNCTION_URLS = 0x0409;
    /// Whose each function URL is, by the id in its host name.
    FUNCTION_URL_IDS = 0x040A;
    /// Versions of layers.
    LAYERS = 0x040B;
    /// The last version number of each layer, kept when its versions are deleted.
    LAYER_COUNTERS = 0x040C;
    /// How many instances are kept ready.
    FUNCTION_PROVISIONED = 0x040D;
    /// When idempotent outcomes end.
    FUNCTION_OUTCOME_ENDS = 0x040E;
    /// Functions whose images are being taken from a registry.
    FUNCTION_PULLS = 0x040F;
    /// Packages made of images from registries, by the images' digests.
    FUNCTION_IMAGES = 0x0410;
    /// Streams that wake functions.
    EVENT_SOURCE_MAPPINGS = 0x0411;
    /// How far those were read.
    EVENT_SOURCE_POSITIONS = 0x0412;

    /// Log groups.
    LOG_GROUPS = 0x0500;
    /// Log streams.
    LOG_STREAMS = 0x0501;
    /// Log events.
    LOG_EVENTS = 0x0502;
    /// Invocations, by function and time.
    INVOCATIONS = 0x0510;
    /// Usage by function and hour.
    USAGE = 0x0511;
    /// Spans of traces.
    SPANS = 0x0512;

    /// Stacks.
    STACKS = 0x0600;
    /// Change sets.
    CHANGE_SETS = 0x0601;
    /// Stack events.
    STACK_EVENTS = 0x0602;

    /// Queues, by name.
    SQS_QUEUES = 0x0700;
    /// What is known of the messages of a queue together.
    SQS_BAGS = 0x0701;
    /// Messages by the time from which they can be received.
    SQS_PLACES = 0x0702;
    /// What messages say.
    SQS_MESSAGES = 0x0703;
    /// Messages that have been received: who may settle them, and how often that was.
    SQS_RECEIPTS = 0x0704;
    /// Queues that a queue is the dead-letter queue of.
    SQS_SOURCES = 0x0705;
    /// When the oldest message of a queue may end (rows of the node).
    SQS_EXPIRY = 0x0706;
    /// Messages of queues that were deleted or purged, still to be removed (rows of the node).
    SQS_DROPPED = 0x0707;

    /// Keys of KMS.
    KMS_KEYS = 0x0D00;
    /// Aliases of keys of KMS.
    KMS_ALIASES = 0x0D01;
    /// What is known of the key under which those of KMS are kept (a row of the node).
    KMS_MASTERS = 0x0D02;
    /// Keys of KMS that are to be deleted, by time (rows of the node).
    KMS_DELETIONS = 0x0D03;
    /// An account's keys of KMS that services use by default.
    KMS_SERVICE_KEYS = 0x0D04;
}

#[cfg(test)]
mod tests {
    use super::ALL;

    #[test]
    fn numbers_are_unique() {
        let mut ids: Vec<_> = ALL.iter().map(|(id, _)| id).collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), ALL.len());
    }
}
