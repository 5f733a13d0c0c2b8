//! Hands out messages: what was claimed at a queue's desk is moved to a later place in one commit, which takes away
//! what has expired, and gives up what was received too often.

use store::{Read, Write};

use crate::Error;
use crate::desk::Claims;
use crate::find::Queue;
use crate::receipt::Handle;
use crate::service::Scope;
use crate::tables::{
    BAGS, EXPIRY, ExpiryRow, MESSAGES, MessageHead, MessageRow, PLACES, Place, PlaceRow, QUEUES, QueueRow,
    RECEIPTS, ReceiptRow, bag_key, expiry_key, message_key, number, place_key, queue_key, receipt_key,
};

/// A message that was received.
#[derive(Debug)]
pub(crate) struct Taken {
    pub(crate) message: MessageRow,
    pub(crate) handle: Handle,
    pub(crate) receives: u32,
    pub(crate) first_ms: i64,
}

/// A claimed message on its way.
#[derive(Debug, Clone)]
struct Claimed {
    place: Place,
    message: MessageRow,
    nonce: [u8; 16],
}

/// What a commit has decided.
enum Moved {
    /// These were received, by their place in the list.
    Received(Vec<(usize, ReceiptRow)>),
    /// The queue's messages are elsewhere.
    Elsewhere,
}

/// A dead-letter queue.
struct DeadLetters {
    queue: Queue,
    max_receives: u32,
}

/// Receives claimed messages, which are hidden for that long; `None` if the queue was purged meanwhile. There may be
/// fewer than were claimed, or none.
pub(crate) async fn take(
    scope: &Scope,
    queue: &Queue,
    claims: Claims,
    hidden_ms: i64,
) -> Result<Option<Vec<Taken>>, Error> {
    let inner = &scope.inner;
    let (account, bag) = (queue.account, queue.row.bag);
    let keys = claims.places.iter().map(|place| Read::Key(message_key(account, bag, place.number))).collect();
    let pages = inner.store.read(keys).await?;
    let mut claimed = Vec::with_capacity(pages.len());
    for (place, page) in claims.places.iter().zip(&pages) {
        // One that is gone has been settled since it was looked for.
        if let Some(stored) = MESSAGES.first(page)? {
            let mut nonce = [0; 16];
            inner.env.fill(&mut nonce);
            claimed.push(Claimed { place: *place, message: stored.value, nonce });
        }
    }
    let dead_letters = dead_letters(scope, queue).await?;
    let desk = scope.desk(queue);
    let low_ms = desk.low_ms();
    let (now, pending) = desk.pending(&inner.env, &vec![hidden_ms; claimed.len()]);
    let pending_dead =
        dead_letters.as_ref().map(|to| scope.desk(&to.queue).pending(&inner.env, &vec![0; claimed.len()]));

    let mut reads = vec![queue.read(), Read::Key(bag_key(account, bag))];
    for Claimed { place, .. } in &claimed {
        reads.push(Read::Key(place_key(account, bag, *place)));
        reads.push(Read::Key(receipt_key(account, bag, place.number)));
    }
    if let Some(to) = &dead_letters {
        reads.push(to.queue.read());
        reads.push(Read::Key(bag_key(account, to.queue.row.bag)));
    }
    let dead_now = pending_dead.as_ref().map_or(now, |(at, _)| *at);
    let (known, moving) = (queue.clone(), claimed.clone());
    let moved = inner.store.transact(reads, move |pages, version| {
        let Some(row) = known.is_still(&pages[0])? else { return Ok((Vec::new(), Moved::Elsewhere)) };
        let mut of_bag = BAGS.first(&pages[1])?.map(|stored| stored.value).unwrap_or_default();
        // One that is gone or was purged takes nothing for now: what it should have had stays where it is.
        let mut dead = match &dead_letters {
            Some(to) => {
                let at = 2 + 2 * moving.len();
                let row = QUEUES.first(&pages[at])?.map(|stored| stored.value);
                let row = row.filter(|row| row.id == to.queue.row.id && row.bag == to.queue.row.bag);
                let of_bag = BAGS.first(&pages[at + 1])?.map(|stored| stored.value).unwrap_or_default();
                row.map(|row| (to, row, of_bag, 0))
            }
            None => None,
        };
        let expired_ms = now.saturating_sub(i64::from(row.settings.retention_s) * 1000);
        let mut writes = Vec::new();
        let mut received = Vec::with_capacity(moving.len());
        for (index, Claimed { place, message, nonce }) in moving.iter().enumerate() {
            if pages[2 + 2 * index].first().is_none() {
                continue;
            }
            let before = RECEIPTS.first(&pages[3 + 2 * index])?.map(|stored| stored.value);
            let receives = before.map_or(0, |before| before.receives) + 1;
            let first_ms = before.map_or(now, |before| before.first_ms);
            writes.push(Write::Delete(place_key(account, bag, *place)));
            if message.head.sent_ms <= expired_ms {
                writes.push(Write::Delete(message_key(account, bag, place.number)));
                writes.push(Write::Delete(receipt_key(account, bag, place.number)));
                of_bag.messages = of_bag.messages.saturating_sub(1);
                continue;
            }
            if let Some((to, _, dead_bag, count)) =
                dead.as_mut().filter(|(to, ..)| receives > to.max_receives)
            {
                writes.push(Write::Delete(message_key(account, bag, place.number)));
                writes.push(Write::Delete(receipt_key(account, bag, place.number)));
                of_bag.messages = of_bag.messages.saturating_sub(1);
                let new = Place { due_ms: dead_now, number: number(version, *count) };
                *count += 1;
                let given_up = given_up(message, &known.arn, dead_now, receives - 1, first_ms);
                let dead_letters = to.queue.row.bag;
                writes.push(PLACES.put(place_key(account, dead_letters, new), &PlaceRow::Sent));
                writes.push(MESSAGES.put(message_key(account, dead_letters, new.number), &given_up));
                dead_bag.messages += 1;
                dead_bag.head_ms = dead_bag.head_ms.min(dead_now);
                continue;
            }
            let due_ms = now.saturating_add(hidden_ms);
            let receipt = ReceiptRow { due_ms, nonce: *nonce, receives, first_ms, last_ms: now };
            let new = Place { due_ms, number: place.number };
            writes.push(PLACES.put(place_key(account, bag, new), &PlaceRow::Received));
            writes.push(RECEIPTS.put(receipt_key(account, bag, place.number), &receipt));
            of_bag.head_ms = of_bag.head_ms.min(due_ms);
            received.push((index, receipt));
        }
        if let Some((to, row, mut of_bag, count)) = dead.filter(|(.., count)| *count > 0) {
            if of_bag.sweep_ms == 0 {
                of_bag.sweep_ms = dead_now.saturating_add(i64::from(row.settings.retention_s) * 1000);
                let key = expiry_key(of_bag.sweep_ms, account, to.queue.row.bag);
                writes.push(EXPIRY.put(key, &ExpiryRow { queue: row.name }));
            }
            let _: usize = count;
            writes.push(BAGS.put(bag_key(account, to.queue.row.bag), &of_bag));
        }
        if !writes.is_empty() {
            if let Some(low_ms) = low_ms {
                of_bag.head_ms = of_bag.head_ms.max(low_ms);
            }
            writes.push(BAGS.put(bag_key(account, bag), &of_bag));
        }
        Ok::<_, Error>((writes, Moved::Received(received)))
    });
    let moved = moved.await;
    drop(pending);
    drop(pending_dead);
    match moved? {
        Moved::Elsewhere => Ok(None),
        Moved::Received(received) => {
            claims.done();
            let taken = received.into_iter().map(|(index, receipt)| {
                let Claimed { place, message, nonce } = claimed[index].clone();
                let handle = Handle { queue: queue.row.id, bag, number: place.number, nonce };
                let receives = receipt.receives + message.head.receives_before;
                let first_ms = message.head.first_received_before_ms.unwrap_or(receipt.first_ms);
                Taken { message, handle, receives, first_ms }
            });
            Ok(Some(taken.collect()))
        }
    }
}

/// The dead-letter queue of a queue, if it has one that is there.
async fn dead_letters(scope: &Scope, queue: &Queue) -> Result<Option<DeadLetters>, Error> {
    let Some(redrive) = &queue.row.settings.redrive else { return Ok(None) };
    let stored = QUEUES.get(&scope.inner.store, queue_key(queue.account, &redrive.queue)).await?;
    Ok(stored.map(|stored| {
        let row: QueueRow = stored.value;
        let arn = scope.inner.arn(queue.account, &row.name);
        let queue = Queue { account: queue.account, arn, row: row.into() };
        DeadLetters { queue, max_receives: redrive.max_receives }
    }))
}

/// A message as it is in a dead-letter queue: its age is counted from when it was first sent.
fn given_up(message: &MessageRow, by: &str, now: i64, receives: u32, first_ms: i64) -> MessageRow {
    let head = MessageHead {
        due_ms: now,
        given_up_by: Some(by.to_owned()),
        receives_before: message.head.receives_before + receives,
        first_received_before_ms: message.head.first_received_before_ms.or(Some(first_ms)),
        ..message.head.clone()
    };
    MessageRow { head, body: message.body.clone() }
}
