//! The vectors that the host reads too, every cut of frames, and bytes that are none.

use std::path::Path;

use capsem_agent::frame::{self, Frame, Reader};
use capsem_agent::{message, processes, window};
use proptest::prelude::*;
use serde_json::Value;

fn vectors(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/vectors/wire")
        .join(name);
    serde_json::from_str(&std::fs::read_to_string(path).expect("the vectors are there"))
        .expect("they are JSON")
}

fn bytes(case: &Value) -> Vec<u8> {
    let text = case["bytes"].as_str().expect("hexadecimal");
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hexadecimal"))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn written(frame: &Frame) -> Value {
    match frame {
        Frame::Message(body) => serde_json::json!({ "message": String::from_utf8_lossy(body) }),
        Frame::Data { stream, content } => {
            serde_json::json!({ "data": { "stream": stream, "content": hex(content) } })
        }
        Frame::End(stream) => serde_json::json!({ "end": stream }),
        Frame::Credit { stream, amount } => {
            serde_json::json!({ "credit": { "stream": stream, "amount": amount } })
        }
        Frame::Reset(stream) => serde_json::json!({ "reset": stream }),
    }
}

fn encoded(frame: &Frame) -> Vec<u8> {
    let mut out = Vec::new();
    match frame {
        Frame::Message(body) => frame::write_message(&mut out, body),
        Frame::Data { stream, content } => frame::write_data(&mut out, *stream, content),
        Frame::End(stream) => frame::write_end(&mut out, *stream),
        Frame::Credit { stream, amount } => frame::write_credit(&mut out, *stream, *amount),
        Frame::Reset(stream) => frame::write_reset(&mut out, *stream),
    }
    out
}

fn all(reader: &mut Reader) -> Result<Vec<Frame>, String> {
    let mut frames = Vec::new();
    while let Some(frame) = reader.next()? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn frames_of_the_vectors() {
    let vectors = vectors("frames.json");
    for case in vectors["valid"].as_array().expect("cases") {
        let mut reader = Reader::default();
        reader.take(&bytes(case));
        let frames = all(&mut reader).unwrap_or_else(|error| panic!("{}: {error}", case["name"]));
        assert_eq!(
            Value::from_iter(frames.iter().map(written)),
            case["frames"],
            "{}",
            case["name"]
        );
        assert!(bytes(case).starts_with(&frames.iter().flat_map(encoded).collect::<Vec<u8>>()));
    }
    for case in vectors["malformed"].as_array().expect("cases") {
        let mut reader = Reader::default();
        reader.take(&bytes(case));
        assert!(all(&mut reader).is_err(), "{} was taken", case["name"]);
    }
}

#[test]
fn messages_of_the_vectors() {
    let vectors = vectors("messages.json");
    let port =
        |case: &Value| u16::try_from(case["port"].as_u64().expect("a port")).expect("a port");
    for case in vectors["host"]["valid"].as_array().expect("cases") {
        let text = case["message"].to_string();
        message::parse(port(case), text.as_bytes())
            .unwrap_or_else(|error| panic!("{text}: {error}"));
        for other in 5000..=5005 {
            // Where it is not said, it is refused; network and MCP say the same, and `freeze` is said on every port.
            let alike = case["message"]["type"] == "freeze"
                || port(case) == other
                || (port(case).min(other) == 5002 && port(case).max(other) == 5003);
            assert_eq!(
                message::parse(other, text.as_bytes()).is_ok(),
                alike,
                "{text} on {other}"
            );
        }
        let mut repeated = text.clone();
        repeated.insert_str(1, "\"type\":\"ping\",");
        assert!(
            message::parse(port(case), repeated.as_bytes()).is_err(),
            "a repeated type was taken: {repeated}"
        );
    }
    for case in vectors["host"]["malformed"].as_array().expect("cases") {
        let text = case["text"].as_str().expect("text");
        assert!(
            message::parse(port(case), text.as_bytes()).is_err(),
            "{} was taken",
            case["name"]
        );
    }
}

fn any_frame() -> impl Strategy<Value = Frame> {
    let content = proptest::collection::vec(any::<u8>(), 2..200);
    let number = 1u32..;
    prop_oneof![
        content.clone().prop_map(Frame::Message),
        (number.clone(), content).prop_map(|(stream, content)| Frame::Data { stream, content }),
        number.clone().prop_map(Frame::End),
        (number.clone(), number.clone())
            .prop_map(|(stream, amount)| Frame::Credit { stream, amount }),
        number.prop_map(Frame::Reset),
    ]
}

proptest! {
    #[test]
    fn cuts_do_not_matter(frames in proptest::collection::vec(any_frame(), 0..8), cut in 1usize..50) {
        let whole: Vec<u8> = frames.iter().flat_map(encoded).collect();
        let mut reader = Reader::default();
        let mut found = Vec::new();
        for part in whole.chunks(cut) {
            reader.take(part);
            found.extend(all(&mut reader).map_err(TestCaseError::fail)?);
        }
        prop_assert_eq!(found, frames);
    }

    #[test]
    fn any_bytes_are_frames_or_refused(data in proptest::collection::vec(any::<u8>(), 0..200)) {
        let mut reader = Reader::default();
        reader.take(&data);
        if let Ok(frames) = all(&mut reader) {
            prop_assert!(data.starts_with(&frames.iter().flat_map(encoded).collect::<Vec<u8>>()));
        }
    }

    #[test]
    fn any_text_is_a_message_or_refused(port in 4999u16..5007, text in "\\{\"type\":\"[a-z]{0,8}\"[ -~]{0,60}\\}") {
        let _ = message::parse(port, text.as_bytes());
    }

    #[test]
    fn any_notice_of_the_kernel_is_read_or_left(data in proptest::collection::vec(any::<u8>(), 0..120), head in any::<bool>()) {
        let mut data = data;
        if head && data.len() >= 24 {
            data[16..24].copy_from_slice(&[1, 0, 0, 0, 1, 0, 0, 0]);
        }
        let _ = processes::notice(&data);
        let mut seen = 0;
        for raw in window::notices(&data) {
            seen += 16 + raw.name.len();
        }
        prop_assert!(seen <= data.len());
    }

    #[test]
    fn any_arguments_fit_what_the_host_takes(data in proptest::collection::vec(any::<u8>(), 0..2049), more in any::<bool>()) {
        let (argv, cut) = processes::arguments(&data, more);
        prop_assert!(argv.len() <= 32);
        prop_assert!(argv.iter().map(|text| text.chars().count()).sum::<usize>() <= 2048);
        prop_assert!(cut || !more);
        let (pid, parent, uid, program) = (1, None, None, None);
        let line = processes::Line::Exec { pid, parent, uid, program, argv: Some(argv), cut };
        prop_assert!(processes::written(&line).len() <= 4096);
    }

    #[test]
    fn any_path_is_shown_or_counted(names in proptest::collection::vec(proptest::collection::vec(1u8.., 0..300), 1..20)) {
        let mut window = window::Window::default();
        for name in &names {
            let path = std::path::Path::new("/w").join(<std::ffi::OsStr as std::os::unix::ffi::OsStrExt>::from_bytes(name));
            window.add(window::What::Write, &path, None);
        }
        let (changes, lost) = window.close();
        prop_assert!(!changes.is_empty() && lost == 0);
        for change in changes {
            prop_assert!(change.path.starts_with('/') && change.path.len() <= 4095);
        }
    }

    #[test]
    fn base64_is_what_it_was(data in proptest::collection::vec(any::<u8>(), 0..100)) {
        const LETTERS: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in data.chunks(3) {
            let bits = chunk.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
            for at in 0..4 {
                let letter = char::from(LETTERS[(bits >> (18 - 6 * at) & 63) as usize]);
                text.push(if at <= chunk.len() { letter } else { '=' });
            }
        }
        prop_assert_eq!(message::unbase64(&text), Some(data));
    }
}
