import CYAML

/// A YAML document as a tree of texts: what the settings need of YAML 1.1, of which JSON is a part.
///
/// Our own bridge, 140 lines, because Yams needs all of Foundation, whose tables of the world's languages would add 40 MB to
/// the program. Source: libyaml's `yaml.h`; YAML 1.1, §3.2.
enum YAMLNode {
    case mapping([(name: String, value: YAMLNode)])
    case sequence([YAMLNode])
    case scalar(String)

    /// The text is no YAML, or names a member twice.
    struct Fault: Error {
        /// The line, from 1.
        let line: Int
        /// The column, from 1.
        let column: Int
    }

    /// The text of a scalar.
    var text: String? {
        guard case .scalar(let text) = self else { return nil }
        return text
    }

    /// Reads the one document of a text; nil if there is none.
    static func parse(_ text: String) throws(Fault) -> YAMLNode? {
        var reader = YAMLReader(Array(text.utf8))
        return try reader.document()
    }
}

/// libyaml's parser, and what is needed to make a tree of its events.
@safe private struct YAMLReader: ~Copyable {
    /// Deeper is no settings file.
    private static let deepest = 64

    private let parser: UnsafeMutablePointer<yaml_parser_t>
    /// libyaml reads it as it goes.
    private let text: UnsafeMutableBufferPointer<UInt8>
    private var anchors: [String: YAMLNode] = [:]

    init(_ bytes: [UInt8]) {
        unsafe text = .allocate(capacity: bytes.count)
        _ = unsafe text.initialize(from: bytes)
        unsafe parser = .allocate(capacity: 1)
        unsafe yaml_parser_initialize(parser)
        unsafe yaml_parser_set_input_string(parser, text.baseAddress, text.count)
    }

    deinit {
        unsafe yaml_parser_delete(parser)
        unsafe parser.deallocate()
        unsafe text.deallocate()
    }

    mutating func document() throws(YAMLNode.Fault) -> YAMLNode? {
        var root: YAMLNode?
        while true {
            let event = try next()
            switch event.kind {
            case YAML_STREAM_END_EVENT: return root
            case YAML_STREAM_START_EVENT, YAML_DOCUMENT_END_EVENT: continue
            // A second one would not be read.
            case YAML_DOCUMENT_START_EVENT where root == nil: root = try node(try next(), depth: 0)
            default: throw event.fault
            }
        }
    }

    private mutating func node(_ event: Event, depth: Int) throws(YAMLNode.Fault) -> YAMLNode {
        guard depth < Self.deepest else { throw event.fault }
        let node: YAMLNode
        switch event.kind {
        case YAML_SCALAR_EVENT:
            node = .scalar(event.text)
        case YAML_ALIAS_EVENT:
            guard let known = anchors[event.anchor] else { throw event.fault }
            return known
        case YAML_SEQUENCE_START_EVENT:
            var elements: [YAMLNode] = []
            while case let element = try next(), element.kind != YAML_SEQUENCE_END_EVENT {
                elements.append(try self.node(element, depth: depth + 1))
            }
            node = .sequence(elements)
        case YAML_MAPPING_START_EVENT:
            var members: [(name: String, value: YAMLNode)] = []
            while case let key = try next(), key.kind != YAML_MAPPING_END_EVENT {
                guard let name = try self.node(key, depth: depth + 1).text,
                    !members.contains(where: { $0.name == name })
                else { throw key.fault }
                members.append((name, try self.node(try next(), depth: depth + 1)))
            }
            node = .mapping(members)
        default:
            throw event.fault
        }
        if !event.anchor.isEmpty { anchors[event.anchor] = node }
        return node
    }

    /// An event, copied out of libyaml's memory.
    private struct Event {
        let kind: yaml_event_type_t
        let text: String
        let anchor: String
        let fault: YAMLNode.Fault
    }

    private mutating func next() throws(YAMLNode.Fault) -> Event {
        var event = unsafe yaml_event_t()
        guard unsafe yaml_parser_parse(parser, &event) == 1 else {
            let mark = unsafe parser.pointee.problem_mark
            throw YAMLNode.Fault(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
        }
        defer { unsafe yaml_event_delete(&event) }
        let mark = unsafe event.start_mark
        let fault = YAMLNode.Fault(line: Int(mark.line) + 1, column: Int(mark.column) + 1)
        switch unsafe event.type {
        case YAML_SCALAR_EVENT:
            let scalar = unsafe event.data.scalar
            let bytes = unsafe UnsafeBufferPointer(start: scalar.value, count: scalar.length)
            return unsafe Event(
                kind: event.type,
                text: String(decoding: bytes, as: UTF8.self),
                anchor: Self.name(scalar.anchor),
                fault: fault
            )
        case YAML_ALIAS_EVENT:
            return unsafe Event(kind: event.type, text: "", anchor: Self.name(event.data.alias.anchor), fault: fault)
        case YAML_SEQUENCE_START_EVENT:
            let anchor = unsafe Self.name(event.data.sequence_start.anchor)
            return unsafe Event(kind: event.type, text: "", anchor: anchor, fault: fault)
        case YAML_MAPPING_START_EVENT:
            let anchor = unsafe Self.name(event.data.mapping_start.anchor)
            return unsafe Event(kind: event.type, text: "", anchor: anchor, fault: fault)
        default:
            return unsafe Event(kind: event.type, text: "", anchor: "", fault: fault)
        }
    }

    private static func name(_ text: UnsafeMutablePointer<yaml_char_t>?) -> String {
        unsafe text.map { unsafe String(cString: $0) } ?? ""
    }
}
