//! Four-letter words: a monitor sends one instead of a first frame, and gets text.

/// What a monitor asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names are ZooKeeper's own")]
pub enum Word {
    Ruok,
    Srvr,
    Stat,
    Mntr,
    Isro,
    Conf,
    Cons,
    Dump,
    Envi,
    Wchs,
    Wchc,
    Wchp,
    Crst,
    Srst,
}

impl Word {
    /// Recognises the first four bytes of a connection; none of the words is a frame length that would be accepted.
    pub fn parse(bytes: [u8; 4]) -> Option<Self> {
        Some(match &bytes {
            b"ruok" => Self::Ruok,
            b"srvr" => Self::Srvr,
            b"stat" => Self::Stat,
            b"mntr" => Self::Mntr,
            b"isro" => Self::Isro,
            b"conf" => Self::Conf,
            b"cons" => Self::Cons,
            b"dump" => Self::Dump,
            b"envi" => Self::Envi,
            b"wchs" => Self::Wchs,
            b"wchc" => Self::Wchc,
            b"wchp" => Self::Wchp,
            b"crst" => Self::Crst,
            b"srst" => Self::Srst,
            _ => return None,
        })
    }
}
