import Benchmark

// `job-benchmarks` measures the time of each step; `job-benchmarks STEP COUNT` only takes a step that often, for a tool
// that counts instructions (see deploy/benchmark).
let arguments = CommandLine.arguments
if arguments.count == 3, let count = Int(arguments[2]),
    let step = JobSteps.all.first(where: { $0.name == arguments[1] })
{
    for _ in 0..<count { step.run() }
} else {
    for step in JobSteps.all { benchmark(step.name) { step.run() } }
    Benchmark.main()
}
