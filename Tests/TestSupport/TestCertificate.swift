import Foundation

/// A self-signed certificate and its key, made by openssl in a directory of a test's own.
package struct TestCertificate: Sendable {
    /// PEM file with the certificate, which is its own trust root.
    package let certificatePath: String
    /// PEM file with the key.
    package let keyPath: String

    /// A certificate for names in the form of openssl's `subjectAltName`, such as `IP:127.0.0.1`.
    package init(for names: String) async throws {
        try self.init(
            ["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=test", "-addext", "subjectAltName=\(names)"]
        )
        try await make()
    }

    /// A trust root of a test's own, which issues others.
    package static func authority() async throws -> TestCertificate {
        let extensions = ["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign"]
        let root = try TestCertificate(
            ["req", "-x509", "-nodes", "-days", "1", "-subj", "/CN=test root"] + extensions.flatMap { ["-addext", $0] }
        )
        try await root.make()
        return root
    }

    /// A certificate of this root, for a common name and alternative names.
    package func issue(name: String, for names: String) async throws -> TestCertificate {
        let issued = try TestCertificate(["req", "-new", "-nodes", "-subj", "/CN=\(name)"])
        let (request, extensions) = (issued.certificatePath + ".csr", issued.certificatePath + ".ext")
        try await issued.make(request)
        try Data("subjectAltName=\(names)\n".utf8).write(to: URL(fileURLWithPath: extensions))
        try await Self.openssl([
            "x509", "-req", "-in", request, "-CA", certificatePath, "-CAkey", keyPath, "-CAcreateserial", "-days", "1",
            "-extfile", extensions, "-out", issued.certificatePath,
        ])
        return issued
    }

    private let arguments: [String]

    private init(_ arguments: [String]) throws {
        self.arguments = arguments
        let directory = FileManager.default.temporaryDirectory.appendingPathComponent("seedream-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        certificatePath = directory.appendingPathComponent("certificate.pem").path
        keyPath = directory.appendingPathComponent("key.pem").path
    }

    private func make(_ path: String? = nil) async throws {
        let key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-keyout", keyPath]
        try await Self.openssl(arguments + key + ["-out", path ?? certificatePath])
    }

    private static func openssl(_ arguments: [String]) async throws {
        let made = try await Program.run(arguments, executable: "/usr/bin/openssl")
        guard made.status == 0 else { throw DeadlinePassed(description: "openssl: \(made.stderr)") }
    }
}
