# A guest's root that has taken the ports from its agent: it stands still from then on, and says nothing of its own.
# perl hostile.pl flood [PORT] | LIE, one of those below; what it does is judged from the host.
use strict;
use warnings;

my ($what, $number) = (@ARGV, 0);

# Not a job any more: the agent has told that it ended before the agent is stopped.
exit if fork;
syscall(112);    # setsid
open(STDIN, "<", "/dev/null");
open(STDOUT, ">", "/dev/null");
open(STDERR, ">", "/root/hostile.log");
my $until = time + 30;
select(undef, undef, undef, 0.2) while getppid != 1 && time < $until;
select(undef, undef, undef, 1);

# PTRACE_ATTACH, and its wait: process 1 stands still.
syscall(101, 16, 1, 0, 0) == 0 or die "ptrace: $!";
syscall(61, 1, 0, 0x40000000, 0);
my $agent = syscall(434, 1, 0);    # pidfd_open
my %port;
for my $fd (map { m{/(\d+)$} } glob "/proc/1/fd/*") {
    my $link = readlink "/proc/1/fd/$fd" or next;
    my ($device) = $link =~ m{^/dev/(vport\w+)$} or next;
    open(my $name, "<", "/sys/class/virtio-ports/$device/name") or next;
    my ($wire) = (<$name> // "") =~ /^capsem\.(\d+)/ or next;
    next if $port{$wire};
    my $mine = syscall(438, $agent, $fd + 0, 0);    # pidfd_getfd
    die "pidfd_getfd: $!" if $mine < 0;
    open($port{$wire}, "+<&=", $mine) or die "open: $!";
}
for my $name (glob "/sys/class/virtio-ports/*/name") {
    open(my $file, "<", $name) or next;
    my ($wire) = (<$file> // "") =~ /^capsem\.(\d+)/ or next;
    next if $port{$wire};
    my ($device) = $name =~ m{/(vport\w+)/};
    open($port{$wire}, "+<", "/dev/$device");
}
open($port{0}, ">", "/dev/ttyS0");
die "no ports" unless $port{5000};

sub frame { my ($kind, $payload) = @_; return pack("VC", 1 + length $payload, $kind) . $payload; }
sub said { return frame(1, shift); }
sub data { my ($stream, $text) = @_; return frame(2, pack("V", $stream) . $text); }
sub gone { return frame(5, pack("V", shift)); }
sub open_one {
    my ($stream, $kind, $address, $port) = @_;
    return said(qq({"type":"open","stream":$stream,"kind":"$kind","address":$address,"port":$port,)
        . qq("pid":7,"uid":0,"program":"/bin/liar"}));
}
sub change {
    my $path = "/etc/" . "x" x 4000;
    return said(qq({"type":"change","what":"write","path":"$path","from":null}));
}

my %lie = (
    huge => [5000, pack("V", 0xffffffff) . "x" x 100],
    kind => [5001, frame(9, "x")],
    again => [5000, said('{"type":"pong","id":1}')],
    port => [5004, said('{"type":"pong","id":1}')],
    never => [5005, data(4_000_000, "x")],
    fault => [5005, said('{"type":"fault","reason":"the host broke the form \u001b]0;x\u0007"}')],
    early => [5003, open_one(1, "mcp", "null", "null") . data(1, "xy")],
    network => [5002, open_one(5_000_000, "tcp", '"1.2.3.4"', 80) x 2],
);

# Each returns what is written next; a flood never reads.
my $next = 1_000_000;
sub opens {
    my $text = "";
    for (1 .. 200) {
        my $one = $next++;
        my $long = "y" x 4000;
        $text .= open_one($one, ("tcp", "tcp", "dns", "mcp")[$one % 4], ('"9.9.9.9"', qq("$long"))[$one / 4 % 2], 443);
        $text .= gone($one);
    }
    return $text;
}
my %flood = (
    0 => sub { return "\e]0;flood\a" . "f" x 4000; },
    5001 => sub { return gone(4) x 4000; },
    5002 => \&opens,
    5004 => sub { return time / 3 % 2 ? change() x 20 : said('{"type":"lost","what":"changes","count":1}') x 2000; },
    5005 => sub { return (data(5, "x") . gone(5) . gone(6)) x 2000; },
    5006 => sub { return "\xff" x 65536; },
);

sub put {
    my ($wire, $text) = @_;
    my $handle = $port{$wire} or return;
    my $at = 0;
    while ($at < length $text) {
        my $done = syswrite($handle, $text, length($text) - $at, $at);
        if (defined $done) { $at += $done; next; }
        my $ready = "";
        vec($ready, fileno $handle, 1) = 1;
        select(undef, $ready, undef, 0.2);
    }
}

if (my $one = $lie{$what}) {
    put(@$one);
    sleep 600;
}
# Each port on its own, so that one which is not read keeps no other.
for my $wire ($number ? ($number) : (0, 5001, 5002, 5004, 5005, 5006)) {
    next if fork;
    while (1) {
        my $text = $flood{$wire}->();
        put($wire, $text) if length $text;
    }
}
# Half a frame that never ends, and a little more of it now and then.
put(5000, pack("VC", 1 << 19, 1)) unless $number;
while (1) { put(5000, "x") unless $number; select(undef, undef, undef, 0.05); }
