import Foundation

/// A self-signed certificate and its key, made by openssl in a directory of a test's own.
package struct TestCertificate: Sendable {
    /// PEM file with the certificate, which is its own trust root.
    package let certificatePath: String
    /// PEM file with the key.
    package let keyPath: String

    /// A certificate for names in the form of openssl's `subjectAltName`, such as `IP:127.0.0.1`.
    package init(for names: String) async throws {
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("seedream-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        certificatePath = directory.appendingPathComponent("certificate.pem").path
        keyPath = directory.appendingPathComponent("key.pem").path
        let made = try await Program.run(
            [
                "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1",
                "-subj", "/CN=test", "-addext", "subjectAltName=\(names)", "-keyout", keyPath, "-out", certificatePath,
            ],
            executable: "/usr/bin/openssl"
        )
        guard made.status == 0 else { throw DeadlinePassed(description: "openssl: \(made.stderr)") }
    }
}
