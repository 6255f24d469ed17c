//! Answering a request, for SNMPv1 (RFC 1157) and v2c (RFC 3416): the message
//! and the device's condition go in, the reply's bytes come out.

use crate::fault::Condition;
use crate::message::{Kind, Message, Response, Status, Value, Version};
use crate::noise::Chance;
use crate::view::{Found, Place, View};

/// The longest reply of random bytes.
const GARBAGE_BYTES: f64 = 300.0;

/// The reply to `request`, or none if an agent would say nothing to it.
pub(crate) fn answer(
    view: &impl View,
    condition: &Condition,
    request: &Message,
    limit: usize,
    chance: &mut Chance,
) -> Option<Vec<u8>> {
    if condition.garbage {
        let count = crate::noise::whole(1.0 + chance.unit() * GARBAGE_BYTES);
        return Some(chance.bytes(usize::try_from(count).unwrap_or(1)));
    }
    let mut reply = well_formed(view, condition, request, limit)?;
    if condition.truncated {
        reply.truncate(reply.len() / 2);
    }
    Some(reply)
}

fn well_formed(
    view: &impl View,
    condition: &Condition,
    request: &Message,
    limit: usize,
) -> Option<Vec<u8>> {
    let request_id = if condition.wrong_id {
        request.request_id.wrapping_add(1)
    } else {
        request.request_id
    };
    let response = Response::to(request, request_id, limit);
    let wanted = varbinds_wanted(request);
    if condition.too_big.is_some_and(|most| wanted > most) {
        return Some(response.fail(request, Status::TooBig, 0));
    }
    match (request.kind, request.version) {
        (Kind::Get, _) => Some(get(view, request, response)),
        (Kind::GetNext, _) => Some(get_next(view, request, response)),
        (Kind::GetBulk, Version::V2c) => Some(get_bulk(view, request, response)),
        (Kind::Set, Version::V1) => Some(response.fail(request, Status::NoSuchName, 1)),
        (Kind::Set, Version::V2c) => Some(response.fail(request, Status::NotWritable, 1)),
        (Kind::GetBulk, Version::V1) | (Kind::Response, _) => None,
    }
}

/// Varbinds that an unlimited answer could have.
fn varbinds_wanted(request: &Message) -> usize {
    let asked = request.varbinds.len();
    if request.kind != Kind::GetBulk {
        return asked;
    }
    let (single, repetitions) = bulk_numbers(request);
    let single = single.min(asked);
    (asked - single)
        .saturating_mul(repetitions)
        .saturating_add(single)
}

/// Non-repeaters and max-repetitions; what is negative counts as 0.
fn bulk_numbers(request: &Message) -> (usize, usize) {
    let number = |number: i32| usize::try_from(number.max(0)).unwrap_or(0);
    (number(request.status), number(request.index))
}

/// GET (RFC 3416 §4.2.1, RFC 1157 §4.1.2).
fn get(view: &impl View, request: &Message, mut response: Response<'_>) -> Vec<u8> {
    for (place, varbind) in request.varbinds.iter().enumerate() {
        let value = match view.get(&varbind.oid) {
            Found::Instance(place) => view.value(place),
            Found::NoSuchInstance => Value::NoSuchInstance,
            Found::NoSuchObject => Value::NoSuchObject,
        };
        if request.version == Version::V1 && !exists_in_v1(&value) {
            return response.fail(request, Status::NoSuchName, place + 1);
        }
        if !response.push(&varbind.oid, &value) {
            return response.fail(request, Status::TooBig, 0);
        }
    }
    response.finish()
}

/// Version 1 knows neither exceptions nor 64-bit counters (RFC 3584 §4.2.2.1).
fn exists_in_v1(value: &Value) -> bool {
    !matches!(
        value,
        Value::Counter64(_) | Value::NoSuchObject | Value::NoSuchInstance | Value::EndOfMibView
    )
}

/// GETNEXT (RFC 3416 §4.2.2, RFC 1157 §4.1.3).
fn get_next(view: &impl View, request: &Message, mut response: Response<'_>) -> Vec<u8> {
    let mut name = Vec::new();
    for (place, varbind) in request.varbinds.iter().enumerate() {
        let found = next_value(view, view.next(&varbind.oid), request.version);
        let fits = match found {
            Some((found, value)) => {
                view.name(found, &mut name);
                response.push(&name, &value)
            }
            None if request.version == Version::V1 => {
                return response.fail(request, Status::NoSuchName, place + 1);
            }
            None => response.push(&varbind.oid, &Value::EndOfMibView),
        };
        if !fits {
            return response.fail(request, Status::TooBig, 0);
        }
    }
    response.finish()
}

/// What is at `place`, or, in version 1, behind it and no 64-bit counter.
fn next_value(view: &impl View, place: Option<Place>, version: Version) -> Option<(Place, Value)> {
    let mut place = place;
    while let Some(found) = place {
        let value = view.value(found);
        if version == Version::V2c || exists_in_v1(&value) {
            return Some((found, value));
        }
        place = view.after(found);
    }
    None
}

/// Where one repeated name of a GETBULK has come to.
enum Cursor {
    At(Place),
    /// Behind the last instance; its name is the last one given.
    End(Vec<u32>),
}

/// GETBULK (RFC 3416 §4.2.3): as many rows as fit.
fn get_bulk(view: &impl View, request: &Message, mut response: Response<'_>) -> Vec<u8> {
    let (single, repetitions) = bulk_numbers(request);
    let (single, repeated) = request
        .varbinds
        .split_at(single.min(request.varbinds.len()));
    let start = |oid: &[u32]| match view.next(oid) {
        Some(place) => Cursor::At(place),
        None => Cursor::End(oid.to_vec()),
    };
    for varbind in single {
        if !push_next(view, &mut start(&varbind.oid), &mut response) {
            return finish_bulk(request, response);
        }
    }
    let mut cursors: Vec<Cursor> = repeated.iter().map(|v| start(&v.oid)).collect();
    for _ in 0..repetitions {
        let ended = cursors
            .iter()
            .all(|cursor| matches!(cursor, Cursor::End(_)));
        for cursor in &mut cursors {
            if !push_next(view, cursor, &mut response) {
                return finish_bulk(request, response);
            }
        }
        // a whole row of ends says it all (RFC 3416 §4.2.3 allows to stop)
        if ended {
            break;
        }
    }
    response.finish()
}

/// Adds what is at `cursor` and moves it on; false if it does not fit.
fn push_next(view: &impl View, cursor: &mut Cursor, response: &mut Response<'_>) -> bool {
    match cursor {
        Cursor::End(name) => response.push(name, &Value::EndOfMibView),
        Cursor::At(place) => {
            let mut name = Vec::with_capacity(16);
            view.name(*place, &mut name);
            let fits = response.push(&name, &view.value(*place));
            *cursor = view.after(*place).map_or(Cursor::End(name), Cursor::At);
            fits
        }
    }
}

/// A reply in which nothing at all fits would make the asker ask for ever.
fn finish_bulk(request: &Message, response: Response<'_>) -> Vec<u8> {
    if response.count() == 0 {
        return response.fail(request, Status::TooBig, 0);
    }
    response.finish()
}

#[cfg(test)]
mod tests {
    use model::Timestamp;

    use super::*;
    use crate::message::Varbind;
    use crate::recording::Recording;

    /// Two strings, a 64-bit counter, a number.
    fn recording() -> Recording {
        Recording::parse(b"1.3.1|4|one\n1.3.2|4|two\n1.3.3|70|5\n1.3.4|2|7\n")
    }

    fn ask(kind: Kind, version: Version, numbers: (i32, i32), names: &[&[u32]]) -> Message {
        Message {
            version,
            community: b"public".to_vec(),
            kind,
            request_id: 9,
            status: numbers.0,
            index: numbers.1,
            varbinds: names
                .iter()
                .map(|oid| Varbind {
                    oid: oid.to_vec(),
                    value: Value::Null,
                })
                .collect(),
        }
    }

    fn reply_within(request: &Message, limit: usize) -> Option<Message> {
        let condition = Condition::new(Timestamp(0));
        let bytes = answer(
            &recording(),
            &condition,
            request,
            limit,
            &mut Chance::new(1),
        )?;
        assert!(bytes.len() <= limit);
        Some(Message::decode(&bytes).unwrap())
    }

    fn reply(request: &Message) -> Message {
        reply_within(request, 1_472).unwrap()
    }

    fn last_parts(message: &Message) -> Vec<u32> {
        let names = message.varbinds.iter();
        names.map(|varbind| *varbind.oid.last().unwrap()).collect()
    }

    #[test]
    fn v1_answers_no_such_name_where_v2c_answers_an_exception() {
        let names: [&[u32]; 2] = [&[1, 3, 1], &[1, 3, 9]];
        let v1 = reply(&ask(Kind::Get, Version::V1, (0, 0), &names));
        assert_eq!((v1.status, v1.index, v1.varbinds.len()), (2, 2, 2));
        let v2c = reply(&ask(Kind::Get, Version::V2c, (0, 0), &names));
        assert_eq!(v2c.status, 0);
        assert_eq!(v2c.varbinds[1].value, Value::NoSuchInstance);
    }

    #[test]
    fn v1_never_sees_a_64_bit_counter() {
        let next = reply(&ask(Kind::GetNext, Version::V1, (0, 0), &[&[1, 3, 2]]));
        assert_eq!(last_parts(&next), [4]);
        let get = reply(&ask(Kind::Get, Version::V1, (0, 0), &[&[1, 3, 3]]));
        assert_eq!(get.status, 2);
    }

    #[test]
    fn the_end_is_an_exception_in_v2c_and_an_error_in_v1() {
        let v2c = reply(&ask(Kind::GetNext, Version::V2c, (0, 0), &[&[1, 3, 4]]));
        assert_eq!(v2c.varbinds[0].value, Value::EndOfMibView);
        let v1 = reply(&ask(Kind::GetNext, Version::V1, (0, 0), &[&[1, 3, 4]]));
        assert_eq!((v1.status, v1.index), (2, 1));
    }

    #[test]
    fn getbulk_answers_non_repeaters_once_and_the_others_row_by_row() {
        let names: [&[u32]; 3] = [&[1, 3, 1], &[1, 3, 1], &[1, 3, 2]];
        let bulk = reply(&ask(Kind::GetBulk, Version::V2c, (1, 2), &names));
        assert_eq!(last_parts(&bulk), [2, 2, 3, 3, 4]);
    }

    #[test]
    fn getbulk_stops_when_everything_is_at_its_end() {
        let bulk = reply(&ask(Kind::GetBulk, Version::V2c, (0, 50), &[&[1, 3, 3]]));
        assert_eq!(last_parts(&bulk), [4, 4]);
        assert_eq!(bulk.varbinds[1].value, Value::EndOfMibView);
    }

    #[test]
    fn getbulk_gives_what_fits_and_get_says_too_big() {
        let bulk = ask(Kind::GetBulk, Version::V2c, (0, 4), &[&[1, 3]]);
        let cut = reply_within(&bulk, 45).unwrap();
        assert_eq!((cut.status, cut.varbinds.len()), (0, 1));
        let names: [&[u32]; 2] = [&[1, 3, 1], &[1, 3, 2]];
        let get = ask(Kind::Get, Version::V2c, (0, 0), &names);
        assert_eq!(reply_within(&get, 45).unwrap().status, 1);
    }

    #[test]
    fn negative_bulk_numbers_count_as_zero() {
        let bulk = reply(&ask(Kind::GetBulk, Version::V2c, (-1, -5), &[&[1, 3]]));
        assert_eq!(bulk.varbinds, []);
    }

    #[test]
    fn nothing_can_be_set_and_nothing_answers_an_answer() {
        let names: [&[u32]; 1] = [&[1, 3, 1]];
        assert_eq!(
            reply(&ask(Kind::Set, Version::V2c, (0, 0), &names)).status,
            17
        );
        assert_eq!(
            reply(&ask(Kind::Set, Version::V1, (0, 0), &names)).status,
            2
        );
        let answer = ask(Kind::Response, Version::V2c, (0, 0), &names);
        assert_eq!(reply_within(&answer, 1_472), None);
        let bulk = ask(Kind::GetBulk, Version::V1, (0, 5), &names);
        assert_eq!(reply_within(&bulk, 1_472), None);
    }

    #[test]
    fn too_big_counts_the_rows_that_were_asked_for() {
        let mut condition = Condition::new(Timestamp(0));
        condition.too_big = Some(10);
        let status = |repetitions| {
            let names: [&[u32]; 2] = [&[1, 3], &[1, 3]];
            let request = ask(Kind::GetBulk, Version::V2c, (0, repetitions), &names);
            let bytes = answer(
                &recording(),
                &condition,
                &request,
                1_472,
                &mut Chance::new(1),
            );
            Message::decode(&bytes.unwrap()).unwrap().status
        };
        assert_eq!((status(5), status(6)), (0, 1));
    }
}
