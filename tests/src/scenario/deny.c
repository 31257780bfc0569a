// Says EPERM to every connect() to PORT, as a network policy by cgroup programs does.
struct bpf_sock_addr {
	unsigned int user_family;
	unsigned int user_ip4;
	unsigned int user_ip6[4];
	unsigned int user_port;
};

__attribute__((section("cgroup/connect4"), used)) int deny4(struct bpf_sock_addr *ctx)
{
	return (unsigned short)ctx->user_port != __builtin_bswap16(PORT);
}

__attribute__((section("cgroup/connect6"), used)) int deny6(struct bpf_sock_addr *ctx)
{
	return (unsigned short)ctx->user_port != __builtin_bswap16(PORT);
}

char _license[] __attribute__((section("license"), used)) = "GPL";
