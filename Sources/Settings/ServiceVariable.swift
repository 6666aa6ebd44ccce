/// The variables that Kubernetes and Docker make of the name of a service: of one called `seedream-console` they begin as
/// ours do.
///
/// Source: Kubernetes, "Accessing the Service", "Environment variables"; Docker, "Legacy container links".
enum ServiceVariable {
    /// Whether a variable is one of those, by its name and, where that may be ours, by its value.
    static func isOne(_ name: String, _ value: String) -> Bool {
        if ["_SERVICE_HOST", "_SERVICE_PORT", "_SERVICE_PORT_NAME"].contains(where: { name.hasSuffix($0) }) {
            return true
        }
        // One per named port: SEEDREAM_CONSOLE_SERVICE_PORT_HTTP.
        if name.contains("_SERVICE_PORT_") || name.contains("_ENV_") { return true }
        if name.hasSuffix("_NAME") { return value.hasPrefix("/") }
        let isAddress = ["tcp://", "udp://", "sctp://"].contains { value.hasPrefix($0) }
        if name.hasSuffix("_PORT"), isAddress { return true }
        // SEEDREAM_CONSOLE_PORT_9470_TCP, and with _PROTO, _PORT or _ADDR behind it.
        guard let match = name.wholeMatch(of: /.+_PORT_[0-9]+_(?:TCP|UDP|SCTP)(_PROTO|_PORT|_ADDR)?/) else {
            return false
        }
        return match.1 != nil || isAddress
    }
}
