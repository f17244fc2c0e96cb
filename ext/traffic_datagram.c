/* SPDX-License-Identifier: Apache-2.0 */
/* Datagrams of traffic.h: one way, there and back, ICMP echo. */
#define _GNU_SOURCE
#include "traffic_internal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

static const uint32_t MAGIC = 0x75647061U;
static const uint64_t END = UINT64_MAX; /* sequence number of the last datagram of a run */

enum {
	END_REPEATS = 5,
	END_PAUSE_NS = 10 * 1000 * 1000,
	SLICE_NS = 50 * 1000 * 1000, /* how often a blocked run looks at the clock */
	PATTERN_STEP = 7919,
	/* A datagram and some lines of cache: a power of two would put all slots in one cache set. */
	SLOT = 65536 + 192,
	SEEN_WINDOW = 1 << 16, /* sequence numbers back in which a duplicate is recognised */
};

struct header {
	uint32_t magic;
	uint32_t run;
	uint64_t sequence;
	uint64_t sent_at;
};
_Static_assert(sizeof(struct header) == TRAFFIC_DATAGRAM_HEADER, "no padding");

static const uint8_t *piece(const struct traffic_pattern *pattern, uint64_t sequence)
{
	return pattern->bytes + sequence * PATTERN_STEP % TRAFFIC_PERIOD;
}

/* Have a blocked call come back after `nanoseconds`, so that the clock is looked at. */
static int limit_blocking(int fd, uint64_t nanoseconds)
{
	const struct timeval limit = {
		.tv_sec = (time_t)(nanoseconds / 1000000000U),
		.tv_usec = (suseconds_t)(nanoseconds % 1000000000U / 1000U),
	};

	if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)) != 0 ||
	    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit)) != 0)
		return -errno;
	return 0;
}

/* Errors of one datagram that do not end a run: the network's, not ours. */
static bool refused(int error)
{
	return error == ENOBUFS || error == EAGAIN || error == EINTR || error == ECONNREFUSED ||
	       error == EHOSTUNREACH || error == ENETUNREACH || error == EMSGSIZE;
}

/* Say several times that a run is over: the queues it filled may drop the first ones. */
static void send_end(int fd, uint32_t run)
{
	const struct header end = {.magic = MAGIC, .run = run, .sequence = END};

	for (int i = 0; i < END_REPEATS; i++) {
		send(fd, &end, sizeof(end), MSG_NOSIGNAL);
		traffic_sleep(END_PAUSE_NS);
	}
}

/* ---- one way -------------------------------------------------------------------------------- */

/* How many datagrams a sender of `rate` may send now; waits when there is none. */
static unsigned int allowance(uint64_t rate, uint64_t sent, uint64_t elapsed)
{
	uint64_t due;

	if (rate == 0)
		return TRAFFIC_BATCH;
	due = elapsed * rate / 1000000000U + 1;
	if (due > sent)
		return due - sent < TRAFFIC_BATCH ? (unsigned int)(due - sent) : TRAFFIC_BATCH;
	traffic_sleep(1000000000U / rate);
	return 0;
}

int traffic_datagram_send(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t size,
			  uint64_t rate, uint64_t datagrams, uint64_t nanoseconds,
			  struct traffic_datagrams *result)
{
	struct header headers[TRAFFIC_BATCH];
	struct iovec parts[TRAFFIC_BATCH][2];
	struct mmsghdr batch[TRAFFIC_BATCH];
	const uint64_t start = traffic_now();
	uint64_t sequence = 0, now = start;

	memset(result, 0, sizeof(*result));
	if (size < sizeof(struct header) || size > TRAFFIC_DATAGRAM_MAX)
		return -EINVAL;
	if (limit_blocking(fd, SLICE_NS) != 0)
		return -errno;
	memset(batch, 0, sizeof(batch));
	while (now - start < nanoseconds && (datagrams == 0 || sequence < datagrams)) {
		unsigned int count = allowance(rate, sequence, now - start);
		int sent;

		if (datagrams != 0 && datagrams - sequence < count)
			count = (unsigned int)(datagrams - sequence);
		for (unsigned int i = 0; i < count; i++) {
			headers[i] = (struct header){MAGIC, run, sequence + i, now};
			parts[i][0] = (struct iovec){&headers[i], sizeof(headers[i])};
			parts[i][1] = (struct iovec){(void *)piece(pattern, sequence + i),
						     size - sizeof(headers[i])};
			batch[i].msg_hdr.msg_iov = parts[i];
			batch[i].msg_hdr.msg_iovlen = 2;
		}
		sent = count == 0 ? 0 : sendmmsg(fd, batch, count, MSG_NOSIGNAL);
		now = traffic_now();
		if (sent < 0) {
			if (!refused(errno))
				return -errno;
			result->refused++;
			sequence++;
			continue;
		}
		sequence += (uint64_t)sent;
		result->datagrams += (uint64_t)sent;
		result->calls += count != 0;
	}
	result->bytes = result->datagrams * size;
	result->nanoseconds = now - start;
	send_end(fd, run);
	return 0;
}

struct receiver {
	const struct traffic_pattern *pattern;
	uint32_t run;
	uint64_t expected; /* highest sequence number so far, plus one */
	uint64_t seen[SEEN_WINDOW / 64];
	struct traffic_datagrams *result;
};

/* Whether this sequence number was marked before; marks it. */
static bool seen_before(struct receiver *receiver, uint64_t sequence)
{
	const uint64_t bit = sequence % SEEN_WINDOW;
	const uint64_t mask = (uint64_t)1 << bit % 64;
	bool before;

	if (sequence >= receiver->expected) {
		/* What the window slides over is forgotten. */
		const uint64_t jump = sequence - receiver->expected;

		if (jump >= SEEN_WINDOW)
			memset(receiver->seen, 0, sizeof(receiver->seen));
		for (uint64_t i = 0; i <= jump && i < SEEN_WINDOW; i++) {
			const uint64_t old = (sequence - i) % SEEN_WINDOW;

			receiver->seen[old / 64] &= ~((uint64_t)1 << old % 64);
		}
	} else if (receiver->expected - sequence > SEEN_WINDOW) {
		return false;
	}
	before = (receiver->seen[bit / 64] & mask) != 0;
	receiver->seen[bit / 64] |= mask;
	return before;
}

/* Count one datagram; true when it is the end of the run. */
static bool account(struct receiver *receiver, const uint8_t *data, size_t length)
{
	struct traffic_datagrams *result = receiver->result;
	struct header header;

	if (length < sizeof(header)) {
		result->corrupt++;
		return false;
	}
	memcpy(&header, data, sizeof(header));
	if (header.magic != MAGIC) {
		result->corrupt++;
		return false;
	}
	if (header.run != receiver->run)
		return false; /* a late one of an earlier run */
	if (header.sequence == END)
		return true;
	if (receiver->pattern != NULL &&
	    memcmp(data + sizeof(header), piece(receiver->pattern, header.sequence),
		   length - sizeof(header)) != 0)
		result->corrupt++;
	if (seen_before(receiver, header.sequence)) {
		result->duplicates++;
		return false;
	}
	if (header.sequence >= receiver->expected)
		receiver->expected = header.sequence + 1;
	else
		result->reordered++;
	result->datagrams++;
	result->bytes += length;
	return false;
}

/* The slots of one recvmmsg. */
struct slots {
	uint8_t *memory;
	struct iovec parts[TRAFFIC_BATCH];
	struct mmsghdr batch[TRAFFIC_BATCH];
	struct sockaddr_storage names[TRAFFIC_BATCH];
};

static struct slots *slots_open(void)
{
	struct slots *slots = calloc(1, sizeof(*slots));

	if (slots == NULL)
		return NULL;
	slots->memory = malloc((size_t)SLOT * TRAFFIC_BATCH);
	if (slots->memory == NULL) {
		free(slots);
		return NULL;
	}
	return slots;
}

static void slots_close(struct slots *slots)
{
	free(slots->memory);
	free(slots);
}

/* Datagrams that came, at least one; 0 when none came for a slice of time, or -errno. */
static int slots_receive(struct slots *slots, int fd)
{
	int count;

	for (size_t i = 0; i < TRAFFIC_BATCH; i++) {
		slots->parts[i] = (struct iovec){slots->memory + i * SLOT, SLOT};
		slots->batch[i].msg_hdr = (struct msghdr){
			.msg_name = &slots->names[i],
			.msg_namelen = sizeof(slots->names[i]),
			.msg_iov = &slots->parts[i],
			.msg_iovlen = 1,
		};
	}
	count = recvmmsg(fd, slots->batch, TRAFFIC_BATCH, MSG_WAITFORONE, NULL);
	if (count < 0)
		return refused(errno) ? 0 : -errno;
	return count;
}

int traffic_datagram_receive(int fd, const struct traffic_pattern *pattern, uint32_t run,
			     uint64_t idle, uint64_t nanoseconds, struct traffic_datagrams *result)
{
	const uint64_t start = traffic_now();
	struct receiver *receiver = calloc(1, sizeof(*receiver));
	struct slots *slots = slots_open();
	uint64_t first = 0, last = 0, now = start;
	int error = limit_blocking(fd, SLICE_NS);
	bool ended = false;

	memset(result, 0, sizeof(*result));
	if (receiver == NULL || slots == NULL)
		error = -ENOMEM;
	if (error != 0)
		goto cleanup;
	receiver->pattern = pattern;
	receiver->run = run;
	receiver->result = result;
	while (!ended && now - start < nanoseconds && (first == 0 || now - last < idle)) {
		const uint64_t before = result->datagrams;
		int count = slots_receive(slots, fd);

		now = traffic_now();
		if (count < 0) {
			error = count;
			break;
		}
		for (int i = 0; i < count; i++)
			ended |= account(receiver, slots->memory + (size_t)i * SLOT,
					 slots->batch[i].msg_len);
		if (result->datagrams != before) {
			last = now;
			if (first == 0)
				first = now;
		}
		result->calls += count > 0;
	}
	result->nanoseconds = last - first;
cleanup:
	if (slots != NULL)
		slots_close(slots);
	free(receiver);
	return error;
}

/* ---- there and back ------------------------------------------------------------------------- */

int traffic_datagram_pong(int fd, uint64_t nanoseconds, struct traffic_datagrams *result)
{
	const uint64_t start = traffic_now();
	struct slots *slots = slots_open();
	int error = limit_blocking(fd, SLICE_NS);
	bool ended = false;

	memset(result, 0, sizeof(*result));
	if (slots == NULL)
		return -ENOMEM;
	while (error == 0 && !ended && traffic_now() - start < nanoseconds) {
		int count = slots_receive(slots, fd);

		if (count < 0)
			error = count;
		for (int i = 0; i < count; i++) {
			struct msghdr *message = &slots->batch[i].msg_hdr;
			struct header header = {.magic = 0};

			slots->parts[i].iov_len = slots->batch[i].msg_len;
			memcpy(&header, slots->parts[i].iov_base,
			       slots->batch[i].msg_len < sizeof(header) ? 0 : sizeof(header));
			ended |= header.magic == MAGIC && header.sequence == END;
			if (header.magic != MAGIC || header.sequence == END)
				continue;
			if (sendmsg(fd, message, MSG_NOSIGNAL) < 0) {
				result->refused++;
				continue;
			}
			result->datagrams++;
			result->bytes += slots->batch[i].msg_len;
		}
	}
	result->nanoseconds = traffic_now() - start;
	slots_close(slots);
	return error;
}

/* What a ping has on its way: sequence numbers tail … next - 1. */
struct flight {
	uint64_t sent_at[TRAFFIC_WINDOW_MAX];
	bool answered[TRAFFIC_WINDOW_MAX];
	uint64_t tail, next;
};

static int flight_send(int fd, const struct traffic_pattern *pattern, uint32_t run,
		       uint64_t sequence, size_t size)
{
	struct header header = {MAGIC, run, sequence, 0};
	struct iovec parts[2] = {
		{&header, sizeof(header)},
		{(void *)piece(pattern, sequence), size - sizeof(header)},
	};
	const struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};

	if (sendmsg(fd, &message, MSG_NOSIGNAL) < 0 && !refused(errno))
		return -errno;
	return 0;
}

static size_t size_of(uint64_t sequence, size_t least, size_t most)
{
	return least + sequence * PATTERN_STEP % (most - least + 1);
}

/* Take one answer off the socket; 0, 1 when there is none, or -errno. */
static int flight_receive(int fd, int flags, const struct traffic_pattern *pattern, uint32_t run,
			  size_t least, size_t most, uint8_t *buffer, struct flight *flight,
			  struct traffic_samples *samples, struct traffic_trips *result)
{
	ssize_t got = recv(fd, buffer, SLOT, flags);
	struct header header;
	size_t slot;

	if (got < 0)
		return refused(errno) ? 1 : -errno;
	if ((size_t)got < sizeof(header)) {
		result->corrupt++;
		return 0;
	}
	memcpy(&header, buffer, sizeof(header));
	if (header.magic != MAGIC || header.run != run || header.sequence >= flight->next) {
		result->corrupt++;
		return 0;
	}
	slot = header.sequence % TRAFFIC_WINDOW_MAX;
	if (header.sequence < flight->tail || flight->answered[slot])
		return 0; /* given up before, or a duplicate */
	flight->answered[slot] = true;
	result->answered++;
	if ((size_t)got != size_of(header.sequence, least, most) ||
	    memcmp(buffer + sizeof(header), piece(pattern, header.sequence),
		   (size_t)got - sizeof(header)) != 0)
		result->corrupt++;
	traffic_samples_add(samples, traffic_now() - flight->sent_at[slot]);
	return 0;
}

int traffic_datagram_ping(int fd, const struct traffic_pattern *pattern, uint32_t run, size_t least,
			  size_t most, uint64_t datagrams, unsigned int window, uint64_t patience,
			  uint64_t nanoseconds, struct traffic_trips *result)
{
	const uint64_t start = traffic_now();
	struct traffic_samples samples;
	struct flight *flight;
	uint8_t *buffer;
	int error;

	memset(result, 0, sizeof(*result));
	if (least < sizeof(struct header) || most < least || most > TRAFFIC_DATAGRAM_MAX ||
	    window == 0 || window > TRAFFIC_WINDOW_MAX)
		return -EINVAL;
	error = traffic_samples_open(&samples);
	if (error != 0)
		return error;
	flight = calloc(1, sizeof(*flight));
	buffer = malloc(SLOT);
	error = flight == NULL || buffer == NULL ? -ENOMEM : limit_blocking(fd, SLICE_NS);
	while (error == 0) {
		const uint64_t now = traffic_now();

		while (flight->tail < flight->next) {
			const size_t slot = flight->tail % TRAFFIC_WINDOW_MAX;

			if (!flight->answered[slot] && now - flight->sent_at[slot] < patience)
				break;
			flight->tail++;
		}
		if (flight->tail == datagrams || now - start > nanoseconds)
			break;
		while (error == 0 && flight->next < datagrams &&
		       flight->next - flight->tail < window) {
			const size_t slot = flight->next % TRAFFIC_WINDOW_MAX;

			flight->answered[slot] = false;
			flight->sent_at[slot] = traffic_now();
			error = flight_send(fd, pattern, run, flight->next,
					    size_of(flight->next, least, most));
			flight->next++;
		}
		if (error == 0)
			error = flight_receive(fd, 0, pattern, run, least, most, buffer, flight,
					       &samples, result);
		while (error == 0)
			error = flight_receive(fd, MSG_DONTWAIT, pattern, run, least, most, buffer,
					       flight, &samples, result);
		if (error == 1)
			error = 0;
	}
	if (flight != NULL)
		result->sent = flight->next;
	result->nanoseconds = traffic_now() - start;
	traffic_samples_close(&samples, result);
	if (error == 0)
		send_end(fd, run);
	free(flight);
	free(buffer);
	return error;
}
