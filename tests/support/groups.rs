//! Consumer groups as their coordinator tells of them.

use std::time::{Duration, Instant};

use super::process::{HANG_GUARD, Process};
use super::server::{Server, troupe};

/// Waits until a group has exactly so many members, with so many partitions each in ascending order.
#[track_caller]
pub fn wait_for_members(server: &Server, group: &str, counts: &[usize]) {
    let deadline = Instant::now() + HANG_GUARD;
    loop {
        let mut command = troupe();
        command.args(["consumer-groups", "--bootstrap-server", &server.bootstrap()]);
        command.args(["--describe", "--group", group, "--members"]);
        let output = Process::spawn("consumer-groups", command).finish();
        let stdout = output.stdout();
        let rows = stdout
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .filter(|row| row.first() == Some(&group));
        let mut sizes: Vec<usize> = rows.filter_map(|row| row.last()?.parse().ok()).collect();
        sizes.sort_unstable();
        if sizes == counts {
            return;
        }
        assert!(Instant::now() < deadline, "{}", output.text());
        std::thread::sleep(Duration::from_millis(50));
    }
}
