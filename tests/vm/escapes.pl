# What a machine's root can read and reach, told as lines; run inside, judged from the host.
# perl escapes.pl scan HEX HEX … | perl escapes.pl devices | perl escapes.pl dial PORT ADDRESS …
use strict;
use warnings;
use Fcntl;
use Socket qw(:DEFAULT getaddrinfo);

my ($what, @given) = @ARGV;
$| = 1;

# Where text is found that stands for something of the host, or of another machine: `found NUMBER PLACE`.
sub scan {
    my @wanted = map { pack "H*", $_ } @_;
    my @places = grep { -f $_ } map { glob } qw(
        /sys/firmware/*/* /sys/firmware/*/*/* /sys/firmware/*/*/*/raw /sys/class/dmi/id/* /proc/cmdline /proc/iomem
        /proc/ioports /proc/kallsyms /proc/interrupts /sys/bus/virtio/devices/*/* /sys/class/virtio-ports/*/name
        /sys/block/*/serial /proc/device-tree/* /proc/keys /proc/1/environ);
    for my $place (@places, glob("/dev/vd* /dev/mem /dev/kmem /dev/port /proc/kcore /dev/nvram /dev/fb*")) {
        sysopen(my $file, $place, O_RDONLY | O_NONBLOCK) or next;
        my ($before, $total, %seen) = ("", 0);
        while ($total < 192 << 20 && sysread($file, my $piece, 1 << 20)) {
            $total += length $piece;
            my $text = $before . $piece;
            for my $number (0 .. $#wanted) {
                next if $seen{$number} || index($text, $wanted[$number]) < 0;
                $seen{$number} = 1;
                print "found $number $place\n";
            }
            $before = length $text > 64 ? substr $text, -64 : $text;
        }
        print "read $place\n" if $total;
    }
}

# Each is tried: `NAME done` or `NAME refused`. None of them may reach QEMU's other ends, or end it.
sub devices {
    my %acts = (
        'iopl' => sub { syscall(172, 3) == 0 },
        'ioperm' => sub { syscall(173, 0x510, 2, 1) == 0 },
        'memory' => sub { sysopen(my $file, "/dev/mem", O_RDWR) },
        'kernel memory' => sub { sysopen(my $file, "/dev/kmem", O_RDWR) },
        'ports' => sub {
            sysopen(my $file, "/dev/port", O_RDWR) or return 0;
            # The firmware's configuration, the debug console, the exit device, the power switch of old boards.
            for my $at (0x510, 0x402, 0xf4, 0x501, 0x604) { sysseek($file, $at, 0); syswrite($file, "\x31"); }
            return 1;
        },
        'kernel image' => sub { sysopen(my $file, "/proc/kcore", O_RDONLY) },
        'another kernel' => sub { syscall(246, 0, 0, 0, 0) == 0 },
        'a module' => sub { syscall(175, my $image = "x" x 64, 64, my $words = "") == 0 },
        'a table' => sub { sysopen(my $file, "/sys/kernel/debug/acpi/custom_method", O_WRONLY) },
        'vsock' => sub { my $sock; socket($sock, 40, SOCK_STREAM, 0) && connect($sock, pack("SSLLC4", 40, 0, 1024, 2, 0, 0, 0, 0)) },
        'a device twice' => sub { my ($port) = glob "/dev/vport*p1"; sysopen(my $file, $port, O_RDWR) },
    );
    for my $name (sort keys %acts) { print "$name ", (eval { $acts{$name}->() } ? "done" : "refused"), "\n"; }
}

# Every address, as it is spelt, by what the machine's own resolver makes of it: `ADDRESS connected`.
sub dial {
    my ($port, @addresses) = @_;
    for my $address (@addresses) {
        my ($error, @found) = getaddrinfo($address, $port, { socktype => SOCK_STREAM });
        for my $one (@found) {
            socket(my $sock, $one->{family}, SOCK_STREAM, 0) or next;
            local $SIG{ALRM} = sub { die };
            alarm 5;
            my $said = "";
            eval {
                connect($sock, $one->{addr}) && syswrite($sock, "GET / HTTP/1.0\r\n\r\n") && sysread($sock, $said, 64);
            };
            print "$address answered\n" if length $said;
            alarm 0;
        }
        print "$address tried\n";
    }
}

{ scan => \&scan, devices => \&devices, dial => \&dial }->{$what}->(@given);
