//! The machine's own floor: what any broker must at least do, in a process of its own that does nothing else.
//!
//! Receiving: read a request over loopback TCP, CRC-32C it once, append it to a file, answer with a few bytes.
//! Sending: `sendfile` of that much file over loopback TCP. CPU time is taken of this process alone, as of a broker.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;

use crate::measure::cpu_seconds;
use crate::support::process::Process;

/// The arguments that make this program the process that is measured.
pub(crate) const RECEIVE: &str = "--floor-receive";
pub(crate) const SEND: &str = "--floor-send";

/// About what a reply to a Produce request of one partition takes.
const ANSWER: [u8; 56] = [0; 56];
/// As many requests as the Java producer keeps in flight.
const IN_FLIGHT: usize = 5;
/// What librdkafka fetches at a time.
const CHUNK: usize = 1024 * 1024;

/// The CPU seconds of receiving `count` requests of `size` bytes.
pub(crate) fn measure_receive(size: usize, count: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let (child, mut stream) = start(RECEIVE, &directory.path().join("floor.log"));
    let mut answers = stream.try_clone().unwrap();
    let mut request = u32::try_from(size).unwrap().to_be_bytes().to_vec();
    request.resize(size + 4, 0x55);
    let before = cpu_seconds(child.id());
    let mut answer = ANSWER;
    for sent in 0..count {
        stream.write_all(&request).unwrap();
        if sent >= IN_FLIGHT {
            answers.read_exact(&mut answer).unwrap();
        }
    }
    for _ in 0..count.min(IN_FLIGHT) {
        answers.read_exact(&mut answer).unwrap();
    }
    let cpu = cpu_seconds(child.id()) - before;
    child.kill();
    cpu
}

/// The CPU seconds of sending a file of `size` bytes `passes` times.
pub(crate) fn measure_send(size: u64, passes: usize) -> f64 {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("floor.log");
    let mut file = File::create(&path).unwrap();
    let chunk = vec![0x55; CHUNK];
    let mut left = size;
    while left > 0 {
        let part = left.min(CHUNK as u64);
        file.write_all(&chunk[..part as usize]).unwrap();
        left -= part;
    }
    let (child, mut stream) = start(SEND, &path);
    let before = cpu_seconds(child.id());
    let mut buffer = vec![0; CHUNK];
    for _ in 0..passes {
        stream.write_all(&[1]).unwrap();
        let mut left = size;
        while left > 0 {
            let most = left.min(CHUNK as u64) as usize;
            let read = stream.read(&mut buffer[..most]).unwrap();
            assert!(read > 0, "the sender ended early");
            left -= read as u64;
        }
    }
    let cpu = cpu_seconds(child.id()) - before;
    child.kill();
    cpu
}

fn start(argument: &str, file: &Path) -> (Process, TcpStream) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(argument).arg(file);
    let child = Process::spawn("the floor", command);
    let port: u16 = child
        .wait_for(|stdout, _| stdout.strip_suffix('\n').map(|line| line.parse().unwrap()))
        .expect("a port");
    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    stream.set_nodelay(true).unwrap();
    (child, stream)
}

fn accept() -> TcpStream {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap().port());
    let (stream, _) = listener.accept().unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Receives requests, each with its length in front, until the other side is gone.
pub(crate) fn receive(file: &str) {
    let mut file = File::create(file).unwrap();
    let stream = accept();
    let mut reader = BufReader::with_capacity(256 * 1024, stream.try_clone().unwrap());
    let mut writer = stream;
    let mut request = Vec::new();
    while !reader.fill_buf().unwrap_or_default().is_empty() {
        let mut length = [0; 4];
        reader.read_exact(&mut length).unwrap();
        request.resize(u32::from_be_bytes(length) as usize, 0);
        reader.read_exact(&mut request).unwrap();
        std::hint::black_box(crc32c::crc32c(&request));
        file.write_all(&request).unwrap();
        writer.write_all(&ANSWER).unwrap();
    }
}

/// Sends the whole file for each byte that comes, until the other side is gone.
pub(crate) fn send(file: &str) {
    let file = File::open(file).unwrap();
    let size = file.metadata().unwrap().len();
    let mut stream = accept();
    let mut asked = [0];
    while stream.read_exact(&mut asked).is_ok() {
        let mut offset = 0;
        while offset < size {
            rustix::fs::sendfile(&stream, &file, Some(&mut offset), CHUNK).unwrap();
        }
    }
}
