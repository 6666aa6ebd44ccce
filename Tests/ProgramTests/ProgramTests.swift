import Testing

/// Tests of the real program: one after the other, since each loads the machine, and some measure.
@Suite(.serialized)
enum ProgramTests {}
