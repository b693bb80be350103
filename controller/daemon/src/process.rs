//! What this process takes of its machine, under the names that Prometheus' own clients have for it.

use bulkhead_runtime::metric;
use procfs::{WithCurrentSystemInfo, process::Process};

/// Numbers about this process in the Prometheus text format; of what the kernel does not tell there are none.
pub(crate) fn metrics(out: &mut String) {
    let version = [([("version", env!("CARGO_PKG_VERSION"))], 1)];
    metric(out, ("bulkhead_build_info", "gauge", "The version that runs; always 1."), version);
    let Some((process, stat)) = Process::myself().and_then(|me| me.stat().map(|stat| (me, stat))).ok() else { return };
    let seconds = |ticks: u64| ticks as f64 / procfs::ticks_per_second() as f64;
    let started = procfs::boot_time_secs().map(|boot| boot as f64 + seconds(stat.starttime));
    let most = process.limits().ok().and_then(|limits| match limits.max_open_files.soft_limit {
        procfs::process::LimitValue::Value(most) => Some(most as f64),
        procfs::process::LimitValue::Unlimited => None,
    });
    let numbers: [(&str, &str, &str, Option<f64>); 7] = [
        ("cpu_seconds_total", "counter", "Processor time spent.", Some(seconds(stat.utime + stat.stime))),
        ("start_time_seconds", "gauge", "When it was started, as seconds since 1970 UTC.", started.ok()),
        ("resident_memory_bytes", "gauge", "Memory in use.", Some(stat.rss_bytes().get() as f64)),
        ("virtual_memory_bytes", "gauge", "Address space in use.", Some(stat.vsize as f64)),
        ("open_fds", "gauge", "Open file descriptors.", process.fd_count().ok().map(|count| count as f64)),
        ("max_fds", "gauge", "File descriptors that it may have open.", most),
        ("threads", "gauge", "Threads.", Some(stat.num_threads as f64)),
    ];
    for (name, kind, help, value) in numbers {
        let sample = value.map(|value| (None, value));
        metric(out, (&format!("process_{name}"), kind, help), sample);
    }
}
