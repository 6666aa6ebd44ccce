extension Unicode.Scalar {
    /// The scalar for a reader if nothing could be seen of it, or only that it turns the text around it; nil if it can be
    /// shown as it is.
    package var escapedIfUnseen: String? {
        switch properties.generalCategory {
        case .control, .format, .lineSeparator, .paragraphSeparator, .surrogate, .privateUse, .unassigned:
            "\\u{\(String(value, radix: 16))}"
        default: nil
        }
    }
}
