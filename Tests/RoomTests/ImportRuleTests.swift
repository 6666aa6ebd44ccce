import Foundation
import Testing

/// The rooms of the house may import only what stands below them.
struct ImportRuleTests {
    /// Our own modules and the C libraries, by the room that may import them.
    private static let rules: [String: Set<String>] = [
        "SharedValues": [],
        "ThreadExecutor": ["CLinux"],
        "RabbitMQ": ["CRabbitMQ", "SharedValues", "ThreadExecutor"],
        "JSON": ["CJansson"],
        "EditJob": ["JSON", "SharedValues"],
        "SeedreamAPI": ["EditJob", "JSON", "SharedValues"],
        "Journal": ["CSQLite", "EditJob", "JSON", "SharedValues", "ThreadExecutor"],
        "Ledger": ["RabbitMQ", "EditJob", "JSON", "Journal", "SharedValues"],
        "EditWorker": [
            "RabbitMQ", "EditJob", "JSON", "Journal", "Ledger", "SeedreamAPI", "SharedValues", "Telemetry",
        ],
        "OperatorTools": ["RabbitMQ", "EditJob", "EditWorker", "JSON", "Journal", "Ledger", "SharedValues"],
        "Telemetry": ["WebServer", "JSON", "SharedValues", "ThreadExecutor"],
        "WebServer": [],
        "Console": [
            "RabbitMQ", "EditJob", "EditWorker", "WebServer", "JSON", "Journal", "Ledger", "OperatorTools",
            "SeedreamAPI", "SharedValues",
        ],
        "Sandbox": ["EditJob", "WebServer", "JSON"],
        "Settings": ["RabbitMQ", "CYAML", "EditJob", "SharedValues"],
        "seedream-worker": [
            "RabbitMQ", "Console", "EditJob", "EditWorker", "JSON", "Journal", "Ledger", "OperatorTools",
            "WebServer", "Telemetry", "Sandbox", "SeedreamAPI", "SharedValues", "ThreadExecutor", "Settings",
        ],
    ]

    /// Modules of which every importer is named, whoever makes them.
    private static let watched: Set<String> = {
        var modules = Set(rules.keys).union(["CRabbitMQ", "CLinux", "CJansson", "CSQLite", "CYAML"])
        modules.formUnion(["Foundation", "Dispatch"])
        return modules
    }()

    private static var sources: URL {
        URL(fileURLWithPath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
            .deletingLastPathComponent().appendingPathComponent("Sources")
    }

    private static func swiftFiles(in room: String) throws -> [URL] {
        let directory = sources.appendingPathComponent(room)
        let paths = try FileManager.default.subpathsOfDirectory(atPath: directory.path)
        return paths.filter { $0.hasSuffix(".swift") }.map { directory.appendingPathComponent($0) }
    }

    private static func imports(of file: URL) throws -> [String] {
        try String(contentsOf: file, encoding: .utf8).split(separator: "\n")
            .compactMap { line in
                let words = line.split(separator: " ")
                guard let index = words.firstIndex(of: "import"), index <= 2, index + 1 < words.count,
                    !line.hasPrefix("//"), !line.hasPrefix(" ")
                else { return nil }
                // `import struct Module.Type` names the module behind the kind.
                let kinds: Set<Substring> = ["struct", "class", "enum", "protocol", "func", "var", "let", "typealias"]
                let name =
                    kinds.contains(words[index + 1]) && index + 2 < words.count ? words[index + 2] : words[index + 1]
                return String(name.split(separator: ".")[0])
            }
    }

    @Test(arguments: rules.keys.sorted())
    func `a room imports only what stands below it`(_ room: String) throws {
        let allowed = try #require(Self.rules[room])
        for file in try Self.swiftFiles(in: room) {
            for module in try Self.imports(of: file) where Self.watched.contains(module) {
                #expect(allowed.contains(module), "\(room) must not import \(module): \(file.lastPathComponent)")
            }
        }
    }

    @Test(arguments: [
        ("RabbitMQ", ["CRabbitMQ"]), ("JSON", ["CJansson"]), ("Journal", ["CSQLite"]),
        ("Settings", ["CYAML"]),
    ])
    func `C is imported only in a room's bridge`(_ room: String, _ modules: [String]) throws {
        for file in try Self.swiftFiles(in: room) where !file.path.contains("/\(room)/Bridge/") {
            for module in try Self.imports(of: file) {
                #expect(
                    !modules.contains(module),
                    "\(module) is imported outside the bridge: \(file.lastPathComponent)"
                )
            }
        }
    }

    @Test func `every room has its rule`() throws {
        let rooms = try FileManager.default.contentsOfDirectory(atPath: Self.sources.path)
        let swiftRooms = try rooms.filter { try !Self.swiftFiles(in: $0).isEmpty }
        #expect(Set(swiftRooms) == Set(Self.rules.keys))
    }

    @Test func `every link in a guide leads to a file`() throws {
        let root = Self.sources.deletingLastPathComponent()
        let folders = ["Sources", "Tests", "deploy"].map { root.appendingPathComponent($0) }
        var guides = [root.appendingPathComponent("README.md")]
        for folder in folders {
            let paths = try FileManager.default.subpathsOfDirectory(atPath: folder.path)
            guides += paths.filter { $0.hasSuffix(".md") }.map { folder.appendingPathComponent($0) }
        }
        #expect(guides.count > 6)
        for guide in guides {
            let text = try String(contentsOf: guide, encoding: .utf8)
            for link in text.matches(of: /\]\(([^)#]+)[^)]*\)/) where !link.1.contains("://") {
                let target = guide.deletingLastPathComponent().appendingPathComponent(String(link.1))
                #expect(FileManager.default.fileExists(atPath: target.path), "\(guide.lastPathComponent): \(link.1)")
            }
        }
    }
}
