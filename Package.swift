// swift-tools-version: 6.2
import PackageDescription

let strict: [SwiftSetting] = [
    .swiftLanguageMode(.v6),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
]
// The rooms are optimized in debug builds too: on two cores the tests take 7 minutes instead of 12, and the first build one more.
let room = strict + [.unsafeFlags(["-O"], .when(configuration: .debug))]

let package = Package(
    name: "seedream-worker",
    products: [
        .executable(name: "seedream-worker", targets: ["seedream-worker"])
    ],
    dependencies: [
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.2"),
        .package(url: "https://github.com/apple/swift-metrics", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.2"),
        .package(url: "https://github.com/apple/swift-nio-extras", from: "1.35.2"),
        .package(url: "https://github.com/apple/swift-nio-ssl", from: "2.37.6"),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-system", from: "1.8.1"),
    ],
    targets: [
        // C libraries: a module map and a shim each; Jansson with an allocator.
        .systemLibrary(name: "CRabbitMQ", pkgConfig: "librabbitmq", providers: [.apt(["librabbitmq-dev"])]),
        .target(name: "CJansson", linkerSettings: [.linkedLibrary("jansson")]),
        .systemLibrary(name: "CLinux"),
        // Chooses the allocator of the release build; no module imports it.
        .target(name: "CAllocator", linkerSettings: [.linkedLibrary("jemalloc", .when(configuration: .release))]),
        .systemLibrary(name: "CSQLite", pkgConfig: "sqlite3", providers: [.apt(["libsqlite3-dev"])]),
        .systemLibrary(name: "CYAML", pkgConfig: "yaml-0.1", providers: [.apt(["libyaml-dev"])]),

        // The rooms. Imports run strictly downwards in this list; Tests/RoomTests checks them.
        .target(
            name: "SharedValues",
            dependencies: [.product(name: "SystemPackage", package: "swift-system")],
            swiftSettings: room
        ),
        .target(
            name: "ThreadExecutor",
            dependencies: [
                "CLinux",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "RabbitMQ",
            dependencies: [
                "CRabbitMQ", "SharedValues", "ThreadExecutor",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ],
            exclude: ["README.md"],
            swiftSettings: room
        ),
        .target(name: "JSON", dependencies: ["CJansson"], swiftSettings: room),
        .target(
            name: "WebServer",
            dependencies: [
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "Telemetry",
            dependencies: [
                "WebServer", "JSON", "SharedValues", "ThreadExecutor",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            swiftSettings: room
        ),
        .target(name: "EditJob", dependencies: ["JSON", "SharedValues"], swiftSettings: room),
        .target(
            name: "SeedreamAPI",
            dependencies: [
                "EditJob", "JSON", "SharedValues",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOExtras", package: "swift-nio-extras"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOHTTPCompression", package: "swift-nio-extras"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
                .product(name: "NIOTLS", package: "swift-nio"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "Journal",
            dependencies: [
                "CSQLite", "EditJob", "JSON", "SharedValues", "ThreadExecutor",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "Ledger",
            dependencies: [
                "RabbitMQ", "EditJob", "JSON", "Journal", "SharedValues",
                .product(name: "DequeModule", package: "swift-collections"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ],
            exclude: ["README.md"],
            swiftSettings: room
        ),
        .target(
            name: "EditWorker",
            dependencies: [
                "RabbitMQ", "EditJob", "JSON", "Journal", "Ledger", "SeedreamAPI", "SharedValues", "Telemetry",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
            ],
            exclude: ["README.md"],
            swiftSettings: room
        ),
        .target(
            name: "OperatorTools",
            dependencies: ["RabbitMQ", "EditJob", "EditWorker", "JSON", "Journal", "Ledger", "SharedValues"],
            exclude: ["README.md"],
            swiftSettings: room
        ),
        .target(
            name: "Sandbox",
            dependencies: [
                "EditJob", "WebServer", "JSON",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "Settings",
            dependencies: [
                "RabbitMQ", "CYAML", "EditJob", "SharedValues",
                .product(name: "Logging", package: "swift-log"),
            ],
            swiftSettings: room
        ),
        .target(
            name: "Console",
            dependencies: [
                "RabbitMQ", "EditJob", "EditWorker", "WebServer", "JSON", "Journal", "Ledger", "OperatorTools",
                "SeedreamAPI",
                "SharedValues",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
            ],
            exclude: ["README.md"],
            swiftSettings: room
        ),
        .executableTarget(
            name: "seedream-worker",
            dependencies: [
                "RabbitMQ", "CAllocator", "Console", "EditJob", "EditWorker", "WebServer", "JSON", "Journal", "Ledger",
                "OperatorTools", "Telemetry", "Sandbox", "SeedreamAPI", "SharedValues", "ThreadExecutor",
                "Settings",
                .product(name: "ArgumentParser", package: "swift-argument-parser"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "SystemPackage", package: "swift-system"),
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ],
            exclude: ["release.ld"],
            swiftSettings: room,
            // One file that runs without a toolchain, in 34 MB with its function names. Each flag's part is in the guide
            // "What a job costs".
            linkerSettings: [
                .unsafeFlags(
                    [
                        "-static-stdlib", "-l_FoundationCollections", "-l_FoundationCShims", "-lswiftSynchronization",
                        "-use-ld=lld",
                    ]
                        + [
                            "-S", "--gc-sections", "--no-export-dynamic", "--icf=safe", "-z", "pack-relative-relocs",
                            "--no-eh-frame-hdr", "-T", "\(Context.packageDirectory)/Sources/seedream-worker/release.ld",
                        ]
                        .flatMap { ["-Xlinker", $0] },
                    .when(configuration: .release)
                )
            ]
        ),

        .target(
            name: "TestSupport",
            dependencies: [
                "EditJob", "JSON", "RabbitMQ", "SharedValues",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
                .product(name: "NIOSSL", package: "swift-nio-ssl"),
            ],
            path: "Tests/TestSupport",
            swiftSettings: strict
        ),
        // libFuzzer's targets; without it they run their kept inputs again. See deploy/fuzz.
        .target(name: "Fuzzing", path: "Tests/Fuzzing/Support", swiftSettings: strict),
        .executableTarget(
            name: "job-body-fuzzer",
            dependencies: ["EditJob", "Fuzzing"],
            path: "Tests/Fuzzing/JobBody",
            exclude: ["Corpus"],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "api-answer-fuzzer",
            dependencies: ["Fuzzing", "SeedreamAPI"],
            path: "Tests/Fuzzing/APIAnswer",
            exclude: ["Corpus"],
            swiftSettings: strict
        ),
        .executableTarget(
            name: "ledger-record-fuzzer",
            dependencies: ["EditJob", "Fuzzing", "Journal", "Ledger", "SharedValues"],
            path: "Tests/Fuzzing/LedgerRecord",
            exclude: ["Corpus"],
            swiftSettings: strict
        ),
        .testTarget(name: "RoomTests", swiftSettings: strict),
        .testTarget(name: "JSONTests", dependencies: ["JSON"], swiftSettings: strict),
        .testTarget(
            name: "EditJobTests",
            dependencies: ["EditJob", "JSON", "TestSupport", "SharedValues"],
            swiftSettings: strict
        ),
        .testTarget(name: "SharedValuesTests", dependencies: ["SharedValues", "TestSupport"], swiftSettings: strict),
        .testTarget(
            name: "ThreadExecutorTests",
            dependencies: [
                "TestSupport", "ThreadExecutor",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .systemLibrary(name: "CMalloc", path: "Tests/CMalloc"),
        .testTarget(
            name: "RabbitMQTests",
            dependencies: [
                "RabbitMQ", "CMalloc", "CRabbitMQ", "TestSupport", "ThreadExecutor",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "WebServerTests",
            dependencies: [
                "WebServer", "TestSupport",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "SeedreamAPITests",
            dependencies: [
                "EditJob", "SeedreamAPI", "TestSupport",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOEmbedded", package: "swift-nio"),
                .product(name: "NIOHTTP1", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"), "SharedValues",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "TelemetryTests",
            dependencies: [
                "Telemetry",
                .product(name: "CoreMetrics", package: "swift-metrics"),
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "JournalTests",
            dependencies: [
                "EditJob", "Journal", "TestSupport",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"), "SharedValues",
            ],
            swiftSettings: strict
        ),
        .testTarget(
            name: "EditWorkerTests",
            dependencies: [
                "RabbitMQ", "EditJob", "EditWorker", "JSON", "Journal", "Ledger", "SeedreamAPI", "SharedValues",
                "TestSupport",
                .product(name: "CoreMetrics", package: "swift-metrics"),
                .product(name: "Logging", package: "swift-log"),
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"), "Telemetry",
            ],
            swiftSettings: room
        ),
        .testTarget(
            name: "LedgerTests",
            dependencies: [
                "RabbitMQ", "EditJob", "JSON", "Journal", "Ledger", "SharedValues", "TestSupport",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
            ],
            swiftSettings: room
        ),
        .testTarget(
            name: "OperatorToolsTests",
            dependencies: [
                "RabbitMQ", "EditJob", "EditWorker", "JSON", "OperatorTools", "Journal", "Ledger", "SharedValues",
                "TestSupport",
            ],
            swiftSettings: strict
        ),
        .testTarget(name: "ConsoleTests", dependencies: ["Console", "JSON", "SharedValues"], swiftSettings: strict),
        .testTarget(name: "SandboxTests", dependencies: ["Sandbox"], swiftSettings: strict),
        .testTarget(
            name: "SettingsTests",
            dependencies: ["RabbitMQ", "SharedValues", "Settings"],
            swiftSettings: strict
        ),
        .testTarget(
            name: "ProgramTests",
            dependencies: [
                "seedream-worker", "job-body-fuzzer", "api-answer-fuzzer", "ledger-record-fuzzer", "RabbitMQ",
                "EditJob",
                "EditWorker", "JSON", "OperatorTools", "SeedreamAPI", "TestSupport",
                .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
                .product(name: "NIOCore", package: "swift-nio"),
                .product(name: "NIOPosix", package: "swift-nio"), "SharedValues",
            ],
            swiftSettings: strict
        ),
    ]
)
