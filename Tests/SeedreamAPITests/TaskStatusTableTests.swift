import SeedreamAPI
import Testing

/// Every row of the table of task statuses.
struct TaskStatusTableTests {
    private static func status(_ code: Int, _ body: String, retryAfter: String? = nil) -> TaskStatus {
        let answer = APIAnswer(status: code, retryAfter: retryAfter, body: .complete(Array(body.utf8)))
        return TaskStatusTable.status(of: .answered(answer))
    }

    @Test(arguments: ["pending", "processing", "waiting", "queuing", "generating", "PROCESSING", "Waiting"])
    func `a task that is not ready is looked at again`(_ word: String) {
        #expect(Self.status(200, #"{"id":"t","status":"\#(word)","result":null}"#) == .running)
    }

    @Test(arguments: [
        #"{"status":"completed","result":["https://a/1.png","http://b/2"]}"#,
        #"{"status":"SUCCESS","result":[{"type":"image","url":"https://a/1.png"},{"url":"http://b/2"}]}"#,
        #"{"code":200,"data":{"status":"success","result":["https://a/1.png","http://b/2"]}}"#,
        #"{"code":200,"data":{"state":"success","resultJson":"{\"resultUrls\":[\"https://a/1.png\",\"http://b/2\"]}"}}"#,
        #"{"code":0,"data":{"state":"SUCCEEDED","resultJson":{"resultUrls":["https://a/1.png","http://b/2"]}}}"#,
        #"{"status":"succeeded","result":["https://a/1.png","http://b/2"]}"#,
    ])
    func `images come as URLs or as objects`(_ body: String) {
        #expect(Self.status(200, body) == .completed(["https://a/1.png", "http://b/2"]))
    }

    @Test(arguments: [
        #"null"#, #"[]"#, #""https://a/1.png""#, #"[""]"#, #"["ftp://a/1"]"#, #"["javascript:alert(1)"]"#,
        #"[{"type":"image"}]"#,
        #"["https://a/1.png",7]"#, #"["https://a/ 1.png"]"#, #"["https:///x"]"#, #"{"url":"https://a"}"#,
    ])
    func `a result that cannot be read is none`(_ result: String) {
        #expect(Self.status(200, #"{"status":"completed","result":\#(result)}"#) == .unreadable)
    }

    @Test func `a task that failed says why`() {
        let words = #"{"status":"failed","error_code":"nsfw","error_msg":"no"}"#
        #expect(Self.status(200, words) == .failed(code: "nsfw", message: "no"))
        #expect(Self.status(200, #"{"status":"fail","error_code":500}"#) == .failed(code: "500", message: nil))
        let family = #"{"code":200,"data":{"state":"fail","resultJson":"","failCode":"501","failMsg":"no"}}"#
        #expect(Self.status(200, family) == .failed(code: "501", message: "no"))
        for word in ["cancelled", "EXPIRED", "rejected"] {
            #expect(Self.status(200, #"{"status":"\#(word)"}"#) == .failed(code: nil, message: nil))
        }
    }

    @Test(arguments: [#""#, #"{}"#, #"{"resultUrls":[]}"#, #"{"resultUrls":["x"]}"#, #"["https://a/1"]"#, "{"])
    func `the family's result that cannot be read is none`(_ inner: String) {
        let text = inner.replacing("\"", with: #"\""#)
        #expect(Self.status(200, #"{"code":200,"data":{"state":"success","resultJson":"\#(text)"}}"#) == .unreadable)
    }

    @Test func `what a look saw is told in words of our own`() {
        func words(_ code: Int, _ body: String) -> String {
            TaskStatusTable.description(of: .answered(APIAnswer(status: code, body: .complete(Array(body.utf8)))))
        }
        #expect(words(503, "<html>") == "HTTP status 503")
        #expect(words(200, #"{"code":200,"data":{"state":"waiting"}}"#) == "the status waiting")
        #expect(words(200, #"{"status":"make the sky blue"}"#) == "an answer without a known status")
        #expect(words(200, "<html>") == "an answer that cannot be read")
        #expect(TaskStatusTable.description(of: .failed(.timedOut)) == "no answer in time")
    }

    @Test func `an unknown task is not found, in an envelope too`() {
        #expect(Self.status(404, "") == .notFound(isOfAPI: false))
        #expect(Self.status(404, #"{"message":"no task"}"#) == .notFound(isOfAPI: true))
        #expect(Self.status(200, #"{"code":404,"msg":"no task"}"#) == .notFound(isOfAPI: true))
    }

    @Test(arguments: [402, 403, 429, 500, 502, 503, 301, 418])
    func `what says nothing of the task is looked at again, not too soon`(_ code: Int) {
        let later = TaskStatus.noAnswer(retryAfter: .seconds(7), isTokenRefused: false)
        #expect(Self.status(code, "", retryAfter: "7") == later)
    }

    @Test func `a refused token is told, and silence is not a status`() {
        #expect(Self.status(401, "") == .noAnswer(retryAfter: nil, isTokenRefused: true))
        let silence = TaskStatus.noAnswer(retryAfter: nil, isTokenRefused: false)
        #expect(TaskStatusTable.status(of: .failed(.timedOut)) == silence)
        for body in ["", "<html>", "{}", #"{"status":7}"#, #"{"status":"later"}"#, "[]"] {
            #expect(Self.status(200, body) == silence)
        }
        #expect(TaskStatusTable.status(of: .answered(APIAnswer(status: 200, body: .tooLong))) == silence)
    }
}
