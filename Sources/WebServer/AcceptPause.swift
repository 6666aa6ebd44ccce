import NIOCore

/// Lets the accept loop rest after a failure, as when the process may open no more files: asked again at once, it would fail
/// again, for as long as the shortage lasts and at the cost of a whole core.
final class AcceptPause: ChannelDuplexHandler {
    typealias InboundIn = any Channel
    typealias OutboundIn = any Channel

    private static let length = TimeAmount.milliseconds(500)

    private var isResting = false
    private var isReadWanted = false

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        guard !isResting else { return }
        isResting = true
        let resume = NIOLoopBound({ self.resume(context) }, eventLoop: context.eventLoop)
        context.eventLoop.scheduleTask(in: Self.length) { resume.value() }
    }

    private func resume(_ context: ChannelHandlerContext) {
        isResting = false
        guard isReadWanted else { return }
        isReadWanted = false
        context.read()
    }

    func read(context: ChannelHandlerContext) {
        if isResting { isReadWanted = true } else { context.read() }
    }
}
