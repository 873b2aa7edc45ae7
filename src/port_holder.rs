//! Finds which process listens on a port, through `/proc`.

use std::error::Error;
use std::fs::{read_dir, read_link, read_to_string};
use std::io;

use troupe_actors::storage::lock::describe_process;

/// The state of a listening socket in `/proc/net/tcp`.
const LISTEN: &str = "0A";

/// Tells which other process listens on which of the ports, if that is what the error comes from.
pub(crate) fn holders(error: &(dyn Error + 'static), ports: &[u16]) -> String {
    if !is_address_in_use(error) {
        return String::new();
    }
    let own = format!("process {} ", std::process::id());
    let holder = |port: &u16| {
        Some((
            *port,
            port_holder(*port).filter(|holder| !holder.starts_with(&own))?,
        ))
    };
    ports
        .iter()
        .filter_map(holder)
        .map(|(port, holder)| format!("; port {port} is held by {holder}"))
        .collect()
}

/// Returns whether an error comes from a port that is taken.
fn is_address_in_use(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::AddrInUse)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Names the process that listens on a TCP port, where this user may know.
fn port_holder(port: u16) -> Option<String> {
    let tables =
        ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| read_to_string(path).unwrap_or_default());
    let inode = tables
        .iter()
        .find_map(|table| listening_inode(table, port))?;
    process_with_socket(&inode).map(describe_process)
}

/// Finds the inode of the socket that listens on a port, in a table of `/proc/net`.
///
/// A line reads `0: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000 1000 0 12345 …`.
fn listening_inode(table: &str, port: u16) -> Option<String> {
    table.lines().skip(1).find_map(|line| {
        let words: Vec<_> = line.split_whitespace().collect();
        let (_, local_port) = words.get(1)?.rsplit_once(':')?;
        let listens =
            words.get(3) == Some(&LISTEN) && u16::from_str_radix(local_port, 16) == Ok(port);
        listens.then(|| words.get(9).map(|inode| (*inode).to_owned()))?
    })
}

fn process_with_socket(inode: &str) -> Option<u32> {
    let link = format!("socket:[{inode}]");
    read_dir("/proc").ok()?.flatten().find_map(|process| {
        let pid = process.file_name().to_str()?.parse().ok()?;
        let mut files = read_dir(process.path().join("fd")).ok()?.flatten();
        files
            .any(|file| {
                read_link(file.path()).is_ok_and(|target| target.as_os_str() == link.as_str())
            })
            .then_some(pid)
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn a_listener_is_found_by_its_port() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let holder = port_holder(listener.local_addr().unwrap().port()).unwrap();
        assert!(
            holder.starts_with(&format!("process {} (", std::process::id())),
            "{holder}"
        );
    }

    #[test]
    fn only_listening_sockets_count() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
             0: 0100007F:2384 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 77 1\n\
             1: 0100007F:2384 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 88 1\n";
        assert_eq!(listening_inode(table, 9092), Some("88".to_owned()));
        assert_eq!(listening_inode(table, 9093), None);
    }
}
