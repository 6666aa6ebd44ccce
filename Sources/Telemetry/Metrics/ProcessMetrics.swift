import Glibc

/// What the kernel says of this process, under the names that all Prometheus clients use.
///
/// Source: Prometheus's "Writing client libraries", "Process metrics"; `proc(5)`.
package enum ProcessMetrics {
    private static let cpu = MetricFamily(
        name: "process_cpu_seconds_total",
        help: "User and system CPU time of the process in seconds.",
        kind: .counter
    )
    private static let memory = MetricFamily(
        name: "process_resident_memory_bytes",
        help: "Resident memory of the process in bytes.",
        kind: .gauge
    )
    private static let descriptors = MetricFamily(
        name: "process_open_fds",
        help: "Open file descriptors of the process.",
        kind: .gauge
    )

    /// The values now; without those that the system does not tell.
    package static func read() -> [(MetricFamily, Double)] {
        var values: [(MetricFamily, Double)] = []
        var usage = rusage()
        if unsafe getrusage(RUSAGE_SELF.rawValue, &usage) == 0 {
            values.append((cpu, seconds(usage.ru_utime) + seconds(usage.ru_stime)))
        }
        if let pages = residentPages { values.append((memory, Double(pages) * Double(sysconf(Int32(_SC_PAGESIZE))))) }
        if let count = openDescriptors { values.append((descriptors, Double(count))) }
        return values
    }

    private static func seconds(_ time: timeval) -> Double {
        Double(time.tv_sec) + Double(time.tv_usec) / 1_000_000
    }

    /// The second number of `/proc/self/statm`.
    private static var residentPages: Int? {
        let descriptor = unsafe open("/proc/self/statm", O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 128)
        let count = unsafe Glibc.read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let numbers = String(decoding: bytes[..<count], as: UTF8.self).split(separator: " ")
        return numbers.count > 1 ? Int(numbers[1]) : nil
    }

    private static var openDescriptors: Int? {
        guard let directory = unsafe opendir("/proc/self/fd") else { return nil }
        defer { unsafe closedir(directory) }
        var count = 0
        while unsafe readdir(directory) != nil { count += 1 }
        // Without the directory itself, its parent, and the descriptor that reads it.
        return count - 3
    }
}
