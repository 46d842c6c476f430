#!/usr/bin/env bash
# Run a command on "host" a of two network namespaces, a and b, that reach each other by name, link and ssh alone:
#   dev/two_hosts.sh horovodrun --disable-cache -np 2 -H a:1,b:1 python train_imagenet.py --hvd ...
# Needs root, ip (iproute2), unshare and sshd. Exit code 77: something is missing. Nothing stays behind.
set -euo pipefail

for tool in ip unshare ssh ssh-keygen; do
    command -v "$tool" > /dev/null || { echo "$tool is not installed" >&2; exit 77; }
done
sshd=$(PATH=$PATH:/usr/sbin command -v sshd) || { echo "sshd is not installed" >&2; exit 77; }
[[ $EUID == 0 ]] || { echo "not root" >&2; exit 77; }

work=$(mktemp -d)
declare -A space=([a]="effnets-a-$$" [b]="effnets-b-$$") address=([a]=10.77.0.1 [b]=10.77.0.2)

clean_up() {
    for host in a b; do
        # Also what hangs on a connection that was cut.
        ip netns pids "${space[$host]}" 2> /dev/null | xargs -r kill -KILL 2> /dev/null || true
        ip netns del "${space[$host]}" 2> /dev/null || true
        rm -rf "/etc/netns/${space[$host]}"
    done
    rm -rf "$work"
}
trap clean_up EXIT

ip netns add "${space[a]}" 2> "$work/error" || { echo "no network namespaces: $(cat "$work/error")" >&2; exit 77; }
ip netns add "${space[b]}"
# Horovod wants the same name on all hosts.
ip link add eth0 netns "${space[a]}" type veth peer name eth0 netns "${space[b]}"

# ssh as horovodrun calls it, without touching the files of the user.
mkdir -p /run/sshd "$work/bin"
for key in user host; do ssh-keygen -q -t ed25519 -N "" -f "$work/$key"; done
cat > "$work/bin/ssh" << END
#!/bin/sh
exec $(command -v ssh) -F none -i $work/user -p 2222 -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR "\$@"
END
chmod +x "$work/bin/ssh"

for host in a b; do
    in_space=(ip netns exec "${space[$host]}")
    mkdir -p "/etc/netns/${space[$host]}"
    printf '127.0.0.1 localhost\n%s a\n%s b\n' "${address[a]}" "${address[b]}" > "/etc/netns/${space[$host]}/hosts"
    "${in_space[@]}" ip link set lo up
    "${in_space[@]}" ip address add "${address[$host]}/24" dev eth0
    "${in_space[@]}" ip link set eth0 up
    printf '%s\n' "Port 2222" "HostKey $work/host" "AuthorizedKeysFile $work/user.pub" "PidFile $work/$host.pid" \
        "PermitRootLogin prohibit-password" "StrictModes no" "UsePAM no" > "$work/$host.conf"
    "${in_space[@]}" unshare --uts sh -c "hostname $host && $sshd -f $work/$host.conf"
done

LINK_OF_B="ip netns exec ${space[b]} ip link set eth0" \
    ip netns exec "${space[a]}" unshare --uts sh -c 'hostname a && exec "$@"' sh env PATH="$work/bin:$PATH" "$@"
