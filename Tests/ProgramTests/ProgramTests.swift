import TestSupport
import Testing

/// Tests of the real program, beside each other: each has its own virtual host, ports and directory.
@Suite(.program)
enum ProgramTests {}
