// Source NAT to the node's address with no connection tracking, as CNIs do it in BPF: a pod's packet leaves by the
// node's uplink with the node's address and another port, and an answer is turned back by a table of ports. Two pods
// that use one port share one, as with any NAT that has too few. NODE4, NODE6A and NODE6B are the node's addresses.
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

struct __sk_buff {
	u32 len;
	u32 pkt_type;
	u32 mark;
	u32 queue_mapping;
	u32 protocol;
};

static void *(*map_lookup)(void *, const void *) = (void *)1;
static long (*map_update)(void *, const void *, const void *, u64) = (void *)2;
static long (*store_bytes)(struct __sk_buff *, u32, const void *, u32, u64) = (void *)9;
static long (*l3_csum_replace)(struct __sk_buff *, u32, u64, u64, u64) = (void *)10;
static long (*l4_csum_replace)(struct __sk_buff *, u32, u64, u64, u64) = (void *)11;
static long (*load_bytes)(const void *, u32, void *, u32) = (void *)26;
static long (*csum_diff)(u32 *, u32, u32 *, u32, u32) = (void *)28;

#define PSEUDO 0x10
#define TCP 6
#define ETH 14
#define NEXT -1

// The node's port is the pod's with one bit turned.
#define TURNED __builtin_bswap16(0x0100)

struct address {
	u32 word[4];
};

struct {
	int (*type)[1]; // BPF_MAP_TYPE_HASH
	int (*max_entries)[65536];
	u16 *key;
	struct address *value;
	int (*pinning)[1]; // by name: both programs have the same
} lab_ports __attribute__((section(".maps"), used));

static const struct address node6 = { { NODE6 } };

static int turn(struct __sk_buff *skb, u32 l4, u32 at_address, u32 at_port, struct address *from,
		const struct address *to, int v6)
{
	u16 port = 0, turned;
	struct address target = *to;
	load_bytes(skb, at_port, &port, 2);
	turned = port ^ TURNED;
	l4_csum_replace(skb, l4 + 16, port, turned, 2);
	if (v6) {
		long diff = csum_diff(from->word, 16, target.word, 16, 0);
		l4_csum_replace(skb, l4 + 16, 0, diff, PSEUDO);
		store_bytes(skb, at_address, target.word, 16, 0);
	} else {
		l4_csum_replace(skb, l4 + 16, from->word[0], target.word[0], PSEUDO | 4);
		l3_csum_replace(skb, ETH + 10, from->word[0], target.word[0], 4);
		store_bytes(skb, at_address, target.word, 4, 0);
	}
	store_bytes(skb, at_port, &turned, 2, 0);
	return NEXT;
}

// 4, 6, or 0 for what is no TCP.
static int family(struct __sk_buff *skb)
{
	u8 protocol = 0;
	if (skb->protocol == __builtin_bswap16(0x0800)) {
		load_bytes(skb, ETH + 9, &protocol, 1);
		return protocol == TCP ? 4 : 0;
	}
	if (skb->protocol == __builtin_bswap16(0x86dd)) {
		load_bytes(skb, ETH + 6, &protocol, 1);
		return protocol == TCP ? 6 : 0;
	}
	return 0;
}

__attribute__((section("tc/out"), used)) int out(struct __sk_buff *skb)
{
	struct address source = {}, node = {};
	u16 port = 0;
	int version = family(skb);
	if (version == 4) {
		load_bytes(skb, ETH + 12, source.word, 4);
		// Only pods: 10.244.0.0/16.
		if ((source.word[0] & __builtin_bswap32(0xffff0000)) != __builtin_bswap32(0x0af40000))
			return NEXT;
		node.word[0] = NODE4;
		load_bytes(skb, ETH + 20, &port, 2);
	} else if (version == 6) {
		load_bytes(skb, ETH + 8, source.word, 16);
		// fd00:10:244::/48
		if (source.word[0] != __builtin_bswap32(0xfd000010) ||
		    (source.word[1] & __builtin_bswap32(0xffff0000)) != __builtin_bswap32(0x02440000))
			return NEXT;
		node = node6;
		load_bytes(skb, ETH + 40, &port, 2);
	} else {
		return NEXT;
	}
	port ^= TURNED;
	map_update(&lab_ports, &port, &source, 0);
	if (version == 4)
		return turn(skb, ETH + 20, ETH + 12, ETH + 20, &source, &node, 0);
	return turn(skb, ETH + 40, ETH + 8, ETH + 40, &source, &node, 1);
}

__attribute__((section("tc/in"), used)) int in(struct __sk_buff *skb)
{
	struct address target = {}, *pod;
	u16 port = 0;
	int version = family(skb);
	if (version == 4) {
		load_bytes(skb, ETH + 16, target.word, 4);
		load_bytes(skb, ETH + 22, &port, 2);
		if (target.word[0] != NODE4)
			return NEXT;
	} else if (version == 6) {
		load_bytes(skb, ETH + 24, target.word, 16);
		load_bytes(skb, ETH + 42, &port, 2);
		if (target.word[0] != node6.word[0] || target.word[1] != node6.word[1] || target.word[3] != node6.word[3])
			return NEXT;
	} else {
		return NEXT;
	}
	pod = map_lookup(&lab_ports, &port);
	if (!pod)
		return NEXT;
	// The other family's entry of the same port is not ours.
	if ((version == 4) != (pod->word[1] == 0))
		return NEXT;
	struct address to = *pod;
	if (version == 4)
		return turn(skb, ETH + 20, ETH + 16, ETH + 22, &target, &to, 0);
	return turn(skb, ETH + 40, ETH + 24, ETH + 42, &target, &to, 1);
}

char _license[] __attribute__((section("license"), used)) = "GPL";
