//! The keys of `zookeeper.properties`: those of ZooKeeper 3.9, with its defaults but for four that say so.

use super::super::ConfigKey;
use super::super::key::{Check, keys};

pub(super) const ZOOKEEPER: &[ConfigKey] = keys! {
    /// The four-letter words that are answered, or * for all. ZooKeeper's default is srvr.
    "4lw.commands.whitelist" List = "*", Check::Any, ReadOnly, Used;
    /// Where the commands of the admin server begin; always /commands.
    "admin.commandURL" String = "/commands", Check::Any, ReadOnly, Ignored;
    /// Whether the admin server runs. ZooKeeper's default is true.
    "admin.enableServer" Boolean = "false", Check::Any, ReadOnly, Used;
    /// How long the admin server keeps an idle connection.
    "admin.idleTimeout" Int = "30000", Check::Any, ReadOnly, Ignored;
    /// The address on which the admin server listens.
    "admin.serverAddress" String = "0.0.0.0", Check::NonEmpty, ReadOnly, Used;
    /// The port of the admin server; 0 for a free one.
    "admin.serverPort" Int = "8080", Check::Between(0, 65_535), ReadOnly, Used;
    /// Hours between two purges; there is one snapshot, which replaces the last.
    "autopurge.purgeInterval" Int = "0", Check::Any, ReadOnly, Ignored;
    /// Snapshots that a purge leaves.
    "autopurge.snapRetainCount" Int = "3", Check::Any, ReadOnly, Ignored;
    /// The port for clients; 0 for a free one.
    "clientPort" Int = "2181", Check::Between(0, 65_535), ReadOnly, Used;
    /// The address on which clients are listened for; all when it is not set.
    "clientPortAddress" String = null, Check::NonEmpty, ReadOnly, Used;
    /// Time to connect to another server of an ensemble.
    "cnxTimeout" Int = "5000", Check::Any, ReadOnly, Ignored;
    /// The directory of the tree. ZooKeeper has no default.
    "dataDir" String = "troupe-data/zookeeper", Check::NonEmpty, ReadOnly, Used;
    /// The directory of the transaction log; here it is part of the store in dataDir.
    "dataLogDir" String = null, Check::Any, ReadOnly, Ignored;
    /// The algorithm of elections.
    "electionAlg" Int = "3", Check::Any, ReadOnly, Ignored;
    /// Whether nodes can have a time to live; always.
    "extendedTypesEnabled" Boolean = "true", Check::Any, ReadOnly, Ignored;
    /// Whether a transaction is on disk before it is answered; always.
    "forceSync" String = "yes", Check::Any, ReadOnly, Ignored;
    /// Requests that may wait in the whole server before it stops reading.
    "globalOutstandingLimit" Int = "1000", Check::Min(1), ReadOnly, Used;
    /// Ticks for a follower to connect to its leader.
    "initLimit" Int = "10", Check::Any, ReadOnly, Ignored;
    /// The longest request, in bytes.
    "jute.maxbuffer" Int = "1048575", Check::Min(1024), ReadOnly, Used;
    /// Whether a leader serves clients.
    "leaderServes" String = "yes", Check::Any, ReadOnly, Ignored;
    /// Connections from one address; 0 for any number.
    "maxClientCnxns" Int = "60", Check::Min(0), ReadOnly, Used;
    /// Connections altogether; 0 for any number.
    "maxCnxns" Int = "0", Check::Any, ReadOnly, Ignored;
    /// The longest session time-out that is granted, in milliseconds; -1 for 20 ticks.
    "maxSessionTimeout" Int = "-1", Check::Min(-1), ReadOnly, Used;
    /// The shortest session time-out that is granted, in milliseconds; -1 for 2 ticks.
    "minSessionTimeout" Int = "-1", Check::Min(-1), ReadOnly, Used;
    /// Whether the server votes.
    "peerType" String = "participant", Check::Any, ReadOnly, Ignored;
    /// Kilobytes by which the transaction log grows.
    "preAllocSize" Int = "65536", Check::Any, ReadOnly, Ignored;
    /// Whether servers of an ensemble listen on all addresses.
    "quorumListenOnAllIPs" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// Whether the ensemble can be changed while it runs.
    "reconfigEnabled" Boolean = "false", Check::Any, ReadOnly, Ignored;
    /// The port for clients with TLS, which is not supported.
    "secureClientPort" Int = null, Check::Any, ReadOnly, Ignored;
    /// The address for clients with TLS.
    "secureClientPortAddress" String = null, Check::Any, ReadOnly, Ignored;
    /// The class of the connections.
    "serverCnxnFactory" Class = null, Check::Any, ReadOnly, Ignored;
    /// Whether ACLs are left unchecked.
    "skipACL" String = "no", Check::Any, ReadOnly, Ignored;
    /// Transactions between two snapshots.
    "snapCount" Int = "100000", Check::Any, ReadOnly, Ignored;
    /// Kilobytes of transactions between two snapshots.
    "snapSizeLimitInKb" Long = "4194304", Check::Any, ReadOnly, Ignored;
    /// Whether a server of an ensemble may run alone.
    "standaloneEnabled" Boolean = "true", Check::Any, ReadOnly, Ignored;
    /// Whether observers write logs.
    "syncEnabled" Boolean = "true", Check::Any, ReadOnly, Ignored;
    /// Ticks by which a follower may lag.
    "syncLimit" Int = "5", Check::Any, ReadOnly, Ignored;
    /// The unit of time-outs, in milliseconds.
    "tickTime" Int = "3000", Check::Between(1, 1_000_000), ReadOnly, Used;
};
