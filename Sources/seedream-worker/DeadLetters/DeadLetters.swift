import ArgumentParser

/// `dead-letters`: what became of the failed jobs, and what is to become of them.
struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters",
        abstract: "Look at the failed jobs, and replay, export or discard them.",
        discussion: """
            Example: seedream-worker dead-letters list --since 2h

            Looking changes nothing. A replay may be interrupted at any moment, by kill -9 too: no job is lost, and one \
            that was on its way is recognised by its id.
            """,
        subcommands: [List.self, Show.self, Replay.self, Discard.self, Export.self]
    )
}
