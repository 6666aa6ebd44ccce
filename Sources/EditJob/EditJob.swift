package import JSON

/// A checked image-edit job: what one paid submission is made of.
///
/// Source: the SeeDream V4 Edit API, `POST /v1/generate/k/seedream-v4-edit`.
package struct EditJob: Hashable, Sendable {
    /// The names of the API's fields, in the API's order.
    package enum Field: String, CaseIterable, Sendable {
        case imageURLs = "image_urls"
        case prompt
        case imageResolution = "image_resolution"
        case imageSize = "image_size"
        case maxImages = "max_images"
        case seed
    }

    /// The resolution of the images.
    package enum ImageResolution: String, CaseIterable, Sendable {
        case oneK = "1K"
        case twoK = "2K"
        case fourK = "4K"
    }

    /// The shape of the images.
    package enum ImageSize: String, CaseIterable, Sendable {
        case square
        case squareHD = "square_hd"
        case portrait4x3 = "portrait_4_3"
        case portrait3x2 = "portrait_3_2"
        case portrait16x9 = "portrait_16_9"
        case landscape4x3 = "landscape_4_3"
        case landscape3x2 = "landscape_3_2"
        case landscape16x9 = "landscape_16_9"
        case landscape21x9 = "landscape_21_9"
    }

    /// The images to edit, 1 to 10.
    package var imageURLs: [String]
    /// What to do with them, at most 5000 code points.
    package var prompt: String
    /// Nil leaves the choice to the API (`1K`).
    package var imageResolution: ImageResolution?
    /// Nil leaves the choice to the API (`square_hd`).
    package var imageSize: ImageSize?
    /// 1 to 6; nil leaves the choice to the API (1).
    package var maxImages: Int64?
    /// Makes a result repeatable.
    package var seed: Int64?
    /// Fields that this version does not know, forwarded as they are under `UnknownFieldPolicy.forward`.
    package var additionalFields: [JSONMember] = []

    /// A job that needs no check, for tests and tools.
    package init(imageURLs: [String], prompt: String) {
        self.imageURLs = imageURLs
        self.prompt = prompt
    }

    /// The API's request body: only the fields that the job has, numbers as integers.
    package func requestBody() -> [UInt8] {
        var members: [JSONMember] = []
        members.reserveCapacity(Field.allCases.count + additionalFields.count)
        members.append(JSONMember(Field.imageURLs.rawValue, .array(imageURLs.map { .string($0) })))
        members.append(JSONMember(Field.prompt.rawValue, .string(prompt)))
        if let imageResolution {
            members.append(JSONMember(Field.imageResolution.rawValue, .string(imageResolution.rawValue)))
        }
        if let imageSize {
            members.append(JSONMember(Field.imageSize.rawValue, .string(imageSize.rawValue)))
        }
        if let maxImages {
            members.append(JSONMember(Field.maxImages.rawValue, .integer(maxImages)))
        }
        if let seed {
            members.append(JSONMember(Field.seed.rawValue, .integer(seed)))
        }
        members += additionalFields
        return JSONValue.object(members).encoded()
    }
}

/// What to do with a field that the API may have gained since this version.
package enum UnknownFieldPolicy: String, CaseIterable, Sendable {
    /// It makes the job invalid.
    case reject
    /// It goes to the API as it is.
    case forward
}
