//! ZooKeeper's error codes, as reply headers and items of a multi carry them.

/// What went wrong with a request, by the code that clients know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(i32)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum ErrorCode {
    Ok = 0,
    SystemError = -1,
    RuntimeInconsistency = -2,
    MarshallingError = -5,
    Unimplemented = -6,
    BadArguments = -8,
    NoNode = -101,
    NoAuth = -102,
    BadVersion = -103,
    NoChildrenForEphemerals = -108,
    NodeExists = -110,
    NotEmpty = -111,
    SessionExpired = -112,
    InvalidAcl = -114,
    AuthFailed = -115,
    SessionMoved = -118,
    NoWatcher = -121,
    ReconfigDisabled = -123,
}

impl ErrorCode {
    /// Returns the number on the wire.
    pub fn code(self) -> i32 {
        self as i32
    }
}
