//! The machine that measures are taken on.

use std::process::Command;

/// What the measures were taken on.
pub(crate) struct Machine {
    pub(crate) lines: Vec<String>,
}

impl Machine {
    pub(crate) fn here() -> Machine {
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let model = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name"))
            .unwrap_or_default();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let memory = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let kib = memory
            .split_whitespace()
            .nth(1)
            .and_then(|text| text.parse::<f64>().ok())
            .unwrap_or_default();
        let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
        let load: Vec<&str> = load.split_whitespace().take(3).collect();
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let lines = vec![
            format!(
                "{cores} cores ({}), {:.0} GB of memory",
                model.trim_matches([' ', '\t', ':']),
                kib * 1024.0 / 1e9
            ),
            format!("load average when it was done: {}", load.join(", ")),
            format!("Linux {}", kernel.trim()),
            first_line("java", &["--version"]),
            first_line("rustc", &["--version"]),
        ];
        Machine { lines }
    }
}

fn first_line(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map(|output| output.stdout)
        .unwrap_or_default();
    String::from_utf8_lossy(&output)
        .lines()
        .next()
        .unwrap_or_default()
        .to_owned()
}
