#!/bin/sh
# Ordinary work with files, as programs do it. Run once outside and once inside: what it prints must be the same.
# Usage: ordinary.sh PYTHON ordinary.py
set -u
export HOME="$PWD" GIT_CONFIG_NOSYSTEM=1 LC_ALL=C TZ=UTC
export GIT_AUTHOR_DATE="2020-01-01T00:00:00Z" GIT_COMMITTER_DATE="2020-01-01T00:00:00Z"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
umask 022

echo "== git"
git init -q -b main repo && cd repo || exit 1
echo one > f; mkdir -p d/e; echo two > d/e/g; ln -s f l
git add -A && git commit -qm one && git mv f f2 && git commit -qam two && git branch b && git checkout -q b
echo x >> f2; git commit -qam three; git log --oneline | cat; git status --short; git gc -q; git fsck 2>&1
git clone -q . ../clone 2>&1; (cd ../clone && git log --oneline | wc -l)
cd ..

echo "== copies"
cp -a repo/d copy; tar cf t.tar copy repo/l; mkdir x; tar xpf t.tar -C x
(cd x && find . -printf '%y %m %l %P\n' | sort); tar tvf t.tar | awk '{print $1,$6,$7,$8}'

echo "== links"
echo a > a; ln a b; ln -s a s; ln -sf b s; ln -s nowhere dang; echo via > dang; cat nowhere; readlink s
stat -c '%h' a; mv -T b c; mv -n a c; rm -f nowhere; ls

echo "== modes and times"
touch m; chmod 751 m; stat -c %a m; chmod u=rw,go= m; stat -c %a m
(umask 027; touch um; mkdir umd; stat -c %a um umd)
touch -d '2001-02-03 04:05:06 UTC' m; stat -c %Y m; touch -r m um; stat -c %Y um; touch -h -d @5 dang; stat -c %Y dang
truncate -s 100 m; stat -c %s m; mkfifo ff; stat -c %F ff; chmod 000 um; chmod 644 um

echo "== pipes by name"
(echo through > ff) & cat ff; wait
(cat ff > fo) & echo again > ff; wait; cat fo
timeout 0.3 cat ff; echo "timeout $?"

echo "== devices"
echo x > /dev/null; (echo y > /dev/stdout) | cat; (echo q > /dev/fd/1) | cat
head -c 3 /dev/zero | wc -c
exec 7<>ff; echo fd7 >&7; read -r v <&7; echo "$v"; exec 7>&-
(echo w > /dev/tty) 2>/dev/null; echo "tty $?"

echo "== python"
"$1" -I "$2"

echo "== what is there"
ls -A | sort
