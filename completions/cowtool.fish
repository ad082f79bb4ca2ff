# Completion of cowtool for fish, made by "npm run man" from the commands: do not edit.
# To install it, copy it to ~/.config/fish/completions/cowtool.fish.
# A stack, BASE,LAYER..., is completed after its last comma where no file begins with the whole word.

# Is the word that is being typed the first one behind cowtool?
function __cowtool_is_first
    test (count (commandline --tokenize --cut-at-cursor --current-process)) -eq 1
end

# Is that the command?
function __cowtool_runs --argument-names command
    set --local words (commandline --tokenize --cut-at-cursor --current-process)
    test (count $words) -gt 1; and test "$words[2]" = $command
end

# The next layer of a stack, behind its last comma.
function __cowtool_layers
    set --local word (commandline --current-token --cut-at-cursor | string replace --regex '^--[a-z-]+=' '')
    string match --quiet '*,*' -- $word; or return
    set --local below (string replace --regex ',[^,]*$' ',' -- $word)
    for path in (complete --do-complete "'' "(string replace --regex '^.*,' '' -- $word))
        echo $below$path
    end
end

complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments check --description 'list every inconsistency of cowfiles'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments completion --description 'print the completion script of a shell'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments convert --description 'convert a stack to another format'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments create --description 'make a new cowfile over a base'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments ctl --description 'control a running server'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments diff --description 'show where two images differ'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments hash --description 'print the checksum of what a stack shows'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments info --description 'show what an image, a cowfile or a stack is and holds'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments invert --description 'swap a base and the layer over it'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments map --description 'list which file of a stack each part of its image comes from'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments measure --description 'tell how large a converted stack would be'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments merge --description 'flatten a cowfile into its base'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments pack --description 'compress a cowfile for storage or transfer'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments rebase --description 'put a cowfile over another base'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments repair --description 'repair cowfiles after a crash'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments resize --description 'give a cowfile\'s image another size'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments serve --description 'serve a stack as a block device over NBD'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments squash --description 'combine several layers of a stack into one'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments unpack --description 'unpack a packed cowfile'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments verify-fingerprint --description 'check whether cowfiles belong to a base'
complete --command cowtool --no-files --condition '__cowtool_is_first' --arguments help --description 'show help on a command'
complete --command cowtool --condition '__cowtool_is_first' --short-option h --long-option help --description 'show help and do nothing else'
complete --command cowtool --condition '__cowtool_is_first' --short-option V --long-option version --description 'show the version'

complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments check --description 'list every inconsistency of cowfiles'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments completion --description 'print the completion script of a shell'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments convert --description 'convert a stack to another format'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments create --description 'make a new cowfile over a base'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments ctl --description 'control a running server'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments diff --description 'show where two images differ'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments hash --description 'print the checksum of what a stack shows'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments info --description 'show what an image, a cowfile or a stack is and holds'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments invert --description 'swap a base and the layer over it'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments map --description 'list which file of a stack each part of its image comes from'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments measure --description 'tell how large a converted stack would be'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments merge --description 'flatten a cowfile into its base'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments pack --description 'compress a cowfile for storage or transfer'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments rebase --description 'put a cowfile over another base'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments repair --description 'repair cowfiles after a crash'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments resize --description 'give a cowfile\'s image another size'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments serve --description 'serve a stack as a block device over NBD'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments squash --description 'combine several layers of a stack into one'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments unpack --description 'unpack a packed cowfile'
complete --command cowtool --no-files --condition '__cowtool_runs help' --arguments verify-fingerprint --description 'check whether cowfiles belong to a base'

complete --command cowtool --condition 'not __cowtool_is_first' --short-option h --long-option help --description 'show help and do nothing else'
complete --command cowtool --condition 'not __cowtool_is_first' --long-option json --arguments 'document lines' --description 'print the result as JSON: one document, or with `lines` one object a line'
complete --command cowtool --condition 'not __cowtool_is_first' --long-option no-color --description 'no colour, even on a terminal'
complete --command cowtool --condition 'not __cowtool_is_first' --long-option progress --exclusive --arguments 'auto bar plain json none' --description 'how to show progress on stderr'
complete --command cowtool --condition 'not __cowtool_is_first' --short-option q --long-option quiet --description 'no notes and no automatic progress'
complete --command cowtool --condition 'not __cowtool_is_first' --short-option v --long-option verbose --description 'print more details'

complete --command cowtool --condition '__cowtool_runs check' --long-option force-share --description 'read the file even while another process writes it'
complete --command cowtool --condition '__cowtool_runs check' --long-option keep-going --description 'of several files, go on behind one that fails: the default'
complete --command cowtool --condition '__cowtool_runs check' --long-option no-keep-going --description 'of several files, stop behind the first whose exit status is not 0'
complete --command cowtool --condition '__cowtool_runs check' --long-option rdofile --require-parameter --arguments '(__cowtool_layers)' --description 'check that it belongs to this base'
complete --command cowtool --condition '__cowtool_runs check' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs completion' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs convert' --long-option abi --exclusive --arguments 'le64 le32 be64 be32' --description 'the machine a cowfile is for; default le64'
complete --command cowtool --condition '__cowtool_runs convert' --long-option base --require-parameter --arguments '(__cowtool_layers)' --description 'OUTPUT holds only the differences from this base (cowfile, dm-snapshot, dm-cow: default the stack\'s base); in qcow2 it becomes the backing file'
complete --command cowtool --condition '__cowtool_runs convert' --long-option chunk-size --exclusive --description 'chunk size of a dm-snapshot store; default 16k'
complete --command cowtool --condition '__cowtool_runs convert' --long-option cluster-size --exclusive --description 'cluster size of a qcow2 file, 512 to 2m; default 64k'
complete --command cowtool --condition '__cowtool_runs convert' --short-option n --long-option dry-run --description 'open everything read-only and report what the real run would do'
complete --command cowtool --condition '__cowtool_runs convert' --long-option flatten --description 'combine the layers into one without reporting that as a loss'
complete --command cowtool --condition '__cowtool_runs convert' --short-option f --long-option force --description 'replace OUTPUT if it exists and is of that format; take layers whose base was changed'
complete --command cowtool --condition '__cowtool_runs convert' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs convert' --long-option to --exclusive --arguments 'raw cowfile dm-snapshot dm-cow qcow2' --description 'the format of OUTPUT'
complete --command cowtool --condition '__cowtool_runs convert' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs create' --long-option abi --exclusive --arguments 'le64 le32 be64 be32' --description 'the target machine: byte order and word size of the head'
complete --command cowtool --condition '__cowtool_runs create' --long-option chunk-size --exclusive --description 'chunk size of a dm-snapshot store [default: 16k]'
complete --command cowtool --condition '__cowtool_runs create' --short-option f --long-option force --description 'replace COWFILE if it exists and is one; take layers whose base was changed'
complete --command cowtool --condition '__cowtool_runs create' --long-option format --exclusive --arguments 'cowfile dm-snapshot' --description 'what to make: a cowfile, or an exception store as the kernel\'s snapshot target writes'
complete --command cowtool --condition '__cowtool_runs create' --long-option from --require-parameter --arguments '(__cowtool_layers)' --description 'fill it with the blocks in which this image differs from the base'
complete --command cowtool --condition '__cowtool_runs create' --long-option identity --exclusive --arguments 'full quick none' --description 'how much of RDOFILE the base record beside COWFILE covers, so that later changes are detected'
complete --command cowtool --condition '__cowtool_runs create' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs create' --long-option stack --require-parameter --arguments '(__cowtool_layers)' --description 'also make a stack file of RDOFILE and COWFILE, which stack:FILE then names'
complete --command cowtool --condition '__cowtool_runs create' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs ctl' --long-option bandwidth --exclusive --description 'limit: bytes per second, or none'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option below --exclusive --description 'watch: wait until less than SIZE is free'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option drain --description 'remove: wait until its clients have left'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option ephemeral --description 'add: discard all writes when it is closed'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option exec --require-parameter --arguments '(__cowtool_layers)' --description 'watch --below: then run this in a shell'
complete --command cowtool --condition '__cowtool_runs ctl' --short-option f --long-option force --description 'add: although the base has changed; remove: although clients use it'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option iops --exclusive --description 'limit: requests per second, or none'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option no-wait --description 'remove --drain: leave the waiting to a job'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option quota --exclusive --description 'add, limit: the most that its cowfile may allocate, or none'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option read-only --description 'add, reopen: read-only'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option repair --description 'add: repair a cowfile that another program left dirty'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option reserve --exclusive --description 'add: keep at least SIZE free on its file system'
complete --command cowtool --condition '__cowtool_runs ctl' --long-option server --exclusive --description 'which server: the path of its control socket, or its name'
complete --command cowtool --condition '__cowtool_runs ctl' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs diff' --short-option f --long-option force --description 'replace the output if it exists and is a cowfile, or a picture; take layers whose base was changed'
complete --command cowtool --condition '__cowtool_runs diff' --long-option hexdump --exclusive --description 'show the bytes of the first N differences'
complete --command cowtool --condition '__cowtool_runs diff' --long-option map --arguments 'text svg' --description 'draw where they differ, in the terminal or as SVG'
complete --command cowtool --condition '__cowtool_runs diff' --short-option o --long-option output --require-parameter --arguments '(__cowtool_layers)' --description 'write a cowfile over A that makes it B; with --map=svg, the picture'
complete --command cowtool --condition '__cowtool_runs diff' --long-option rdofile --require-parameter --arguments '(__cowtool_layers)' --description 'read cowfiles by themselves over this base'
complete --command cowtool --condition '__cowtool_runs diff' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs diff' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs hash' --long-option block-size --exclusive --description 'a power of two: another size gives another checksum'
complete --command cowtool --condition '__cowtool_runs hash' --long-option digest --exclusive --arguments 'sha256 sha512 sha1 blake2b512 blake2s256 sha3-256' --description 'the digest of blocks and of the whole'
complete --command cowtool --condition '__cowtool_runs hash' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs info' --short-option f --long-option force --description 'replace the picture if it exists and is one'
complete --command cowtool --condition '__cowtool_runs info' --long-option force-share --description 'read the file even while another process writes it'
complete --command cowtool --condition '__cowtool_runs info' --long-option keep-going --description 'of several files, go on behind one that fails: the default'
complete --command cowtool --condition '__cowtool_runs info' --long-option map --arguments 'text svg' --description 'show where the image\'s blocks come from, in the terminal or as SVG'
complete --command cowtool --condition '__cowtool_runs info' --long-option no-keep-going --description 'of several files, stop behind the first whose exit status is not 0'
complete --command cowtool --condition '__cowtool_runs info' --short-option o --long-option output --require-parameter --arguments '(__cowtool_layers)' --description 'with --map=svg: write the picture there'
complete --command cowtool --condition '__cowtool_runs info' --long-option rdofile --require-parameter --arguments '(__cowtool_layers)' --description 'compare with this base'
complete --command cowtool --condition '__cowtool_runs info' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs info' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs invert' --long-option abi --exclusive --arguments 'le64 le32 be64 be32' --description 'the target machine: byte order and word size of the head'
complete --command cowtool --condition '__cowtool_runs invert' --short-option f --long-option force --description 'replace the new files if they exist and are an image and a cowfile'
complete --command cowtool --condition '__cowtool_runs invert' --long-option layer --require-parameter --arguments '(__cowtool_layers)' --description 'the new layer to make, a cowfile'
complete --command cowtool --condition '__cowtool_runs invert' --short-option o --long-option output --require-parameter --arguments '(__cowtool_layers)' --description 'the new base to make'
complete --command cowtool --condition '__cowtool_runs invert' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs invert' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs map' --long-option svg --description 'draw it as an SVG picture on stdout, a colour for each layer'
complete --command cowtool --condition '__cowtool_runs map' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs measure' --long-option abi --exclusive --arguments 'le64 le32 be64 be32' --description 'the machine a cowfile is for; default le64'
complete --command cowtool --condition '__cowtool_runs measure' --long-option base --require-parameter --arguments '(__cowtool_layers)' --description 'OUTPUT holds only the differences from this base (cowfile, dm-snapshot, dm-cow: default the stack\'s base); in qcow2 it becomes the backing file'
complete --command cowtool --condition '__cowtool_runs measure' --long-option chunk-size --exclusive --description 'chunk size of a dm-snapshot store; default 16k'
complete --command cowtool --condition '__cowtool_runs measure' --long-option cluster-size --exclusive --description 'cluster size of a qcow2 file, 512 to 2m; default 64k'
complete --command cowtool --condition '__cowtool_runs measure' --long-option to --exclusive --arguments 'raw cowfile dm-snapshot dm-cow qcow2' --description 'the format of OUTPUT'
complete --command cowtool --condition '__cowtool_runs measure' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs merge' --short-option n --long-option dry-run --description 'open everything read-only and report what the real run would do'
complete --command cowtool --condition '__cowtool_runs merge' --short-option f --long-option force --description 'merge despite a failed check; with --output, replace FILE if it is an image'
complete --command cowtool --condition '__cowtool_runs merge' --long-option give-up --description 'merge nothing: remove the merge journal of an interrupted merge whose COWFILE and undo file are lost'
complete --command cowtool --condition '__cowtool_runs merge' --short-option o --long-option output --require-parameter --arguments '(__cowtool_layers)' --description 'write a new image to FILE and leave both inputs unchanged; with SIBLING, a cowfile'
complete --command cowtool --condition '__cowtool_runs merge' --long-option prefer --exclusive --arguments 'a b' --description 'with SIBLING: which of the two to take where both changed, COWFILE or SIBLING'
complete --command cowtool --condition '__cowtool_runs merge' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs merge' --long-option undo --require-parameter --arguments '(__cowtool_layers)' --description 'first save the blocks to be overwritten in FILE, a cowfile over the merged base: merging FILE undoes the merge'
complete --command cowtool --condition '__cowtool_runs merge' --short-option y --long-option yes --description 'answer the confirmation prompt with yes'
complete --command cowtool --condition '__cowtool_runs merge' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs pack' --short-option f --long-option force --description 'replace PACKFILE if it exists and is a pack'
complete --command cowtool --condition '__cowtool_runs pack' --long-option format --exclusive --arguments 'zstd gzip plain' --description 'the packed form'
complete --command cowtool --condition '__cowtool_runs pack' --long-option level --exclusive --description 'how hard to compress: 1 to 22 for zstd (default 3), 1 to 9 for gzip (default 9)'
complete --command cowtool --condition '__cowtool_runs pack' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs pack' --long-option threads --exclusive --description 'how many pieces to compress at once (default: one a processor)'
complete --command cowtool --condition '__cowtool_runs pack' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs rebase' --long-option drop-equal --description 'give up blocks that are the same in NEWBASE'
complete --command cowtool --condition '__cowtool_runs rebase' --short-option n --long-option dry-run --description 'open everything read-only and report what the real run would do'
complete --command cowtool --condition '__cowtool_runs rebase' --short-option f --long-option force --description 'rebase despite a failed check'
complete --command cowtool --condition '__cowtool_runs rebase' --long-option from --require-parameter --arguments '(__cowtool_layers)' --description 'what COWFILE is over, a stack; needed unless --unsafe'
complete --command cowtool --condition '__cowtool_runs rebase' --long-option to --require-parameter --arguments '(__cowtool_layers)' --description 'what it is to be over, a stack of the same size'
complete --command cowtool --condition '__cowtool_runs rebase' --long-option unsafe --description 'copy nothing and only note NEWBASE in COWFILE: it then shows something else wherever the bases differ'
complete --command cowtool --condition '__cowtool_runs rebase' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs repair' --long-option drop-lost --description 'clear the bitmap bits of blocks whose data is beyond the end of the file: the loss is final'
complete --command cowtool --condition '__cowtool_runs repair' --short-option n --long-option dry-run --description 'open everything read-only and report what the real run would do'
complete --command cowtool --condition '__cowtool_runs repair' --short-option f --long-option force --description 'examine a clean file, too'
complete --command cowtool --condition '__cowtool_runs repair' --long-option keep-going --description 'of several files, go on behind one that fails: the default'
complete --command cowtool --condition '__cowtool_runs repair' --long-option no-keep-going --description 'of several files, stop behind the first whose exit status is not 0'
complete --command cowtool --condition '__cowtool_runs repair' --long-option rdofile --require-parameter --arguments '(__cowtool_layers)' --description 'check first that it belongs to this base'
complete --command cowtool --condition '__cowtool_runs repair' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs resize' --short-option n --long-option dry-run --description 'open everything read-only and report what the real run would do'
complete --command cowtool --condition '__cowtool_runs resize' --short-option f --long-option force --description 'resize despite a failed check'
complete --command cowtool --condition '__cowtool_runs resize' --long-option shrink --description 'allow a smaller size: what is beyond it is lost'
complete --command cowtool --condition '__cowtool_runs resize' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs serve' --long-option control --require-parameter --arguments '(__cowtool_layers)' --description 'the path of its control socket, or none'
complete --command cowtool --condition '__cowtool_runs serve' --long-option ephemeral --description 'discard all writes when the server ends'
complete --command cowtool --condition '__cowtool_runs serve' --long-option exit-last --description 'end when the last client has left'
complete --command cowtool --condition '__cowtool_runs serve' --long-option export --require-parameter --arguments '(__cowtool_layers)' --description 'serve a stack under a name'
complete --command cowtool --condition '__cowtool_runs serve' --short-option f --long-option force --description 'serve although the base has changed in blocks that the cowfile has not allocated'
complete --command cowtool --condition '__cowtool_runs serve' --long-option insecure --description 'allow a public address without TLS'
complete --command cowtool --condition '__cowtool_runs serve' --long-option listen --exclusive --description 'listen on TCP [default: 127.0.0.1:10809]'
complete --command cowtool --condition '__cowtool_runs serve' --long-option max-connections --exclusive --description 'connections at a time [default: 256]'
complete --command cowtool --condition '__cowtool_runs serve' --long-option pid-file --require-parameter --arguments '(__cowtool_layers)' --description 'write the process id here once it is ready'
complete --command cowtool --condition '__cowtool_runs serve' --long-option quota --exclusive --description 'the most that a cowfile\'s blocks may take'
complete --command cowtool --condition '__cowtool_runs serve' --long-option read-only --description 'export read-only'
complete --command cowtool --condition '__cowtool_runs serve' --long-option repair --description 'repair a cowfile that was left dirty by another program'
complete --command cowtool --condition '__cowtool_runs serve' --long-option reserve --exclusive --description 'keep at least SIZE free on the cowfile\'s file system'
complete --command cowtool --condition '__cowtool_runs serve' --long-option socket --require-parameter --arguments '(__cowtool_layers)' --description 'listen on a unix socket that only you may use'
complete --command cowtool --condition '__cowtool_runs serve' --long-option state --exclusive --arguments '(__fish_complete_directories)' --description 'keep the exports that are added here, for the next start'
complete --command cowtool --condition '__cowtool_runs serve' --long-option stdio --description 'serve one client on standard input and output'
complete --command cowtool --condition '__cowtool_runs serve' --long-option tls --exclusive --arguments 'require allow' --description 'whether clients must use TLS'
complete --command cowtool --condition '__cowtool_runs serve' --long-option tls-certificates --exclusive --arguments '(__fish_complete_directories)' --description 'TLS with server-cert.pem and server-key.pem from DIR'
complete --command cowtool --condition '__cowtool_runs serve' --long-option tls-psk --require-parameter --arguments '(__cowtool_layers)' --description 'TLS with the pre-shared keys in this file'
complete --command cowtool --condition '__cowtool_runs serve' --long-option warn-below --exclusive --description 'warn when less is free there [default: 256M]'
complete --command cowtool --condition '__cowtool_runs serve' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs squash' --long-option abi --exclusive --arguments 'le64 le32 be64 be32' --description 'the target machine: byte order and word size of the head'
complete --command cowtool --condition '__cowtool_runs squash' --short-option f --long-option force --description 'replace COWFILE if it exists and is one; take layers whose base was changed'
complete --command cowtool --condition '__cowtool_runs squash' --long-option from --exclusive --description 'the lowest layer, from 1 [default: the first]'
complete --command cowtool --condition '__cowtool_runs squash' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs squash' --long-option to --exclusive --description 'the highest layer [default: the last]'
complete --command cowtool --condition '__cowtool_runs squash' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs unpack' --short-option f --long-option force --description 'replace COWFILE if it exists and is one'
complete --command cowtool --condition '__cowtool_runs unpack' --long-option replace --exclusive --description 'replace this output, whatever it is: --force replaces only files of the kind that the command writes'
complete --command cowtool --condition '__cowtool_runs unpack' --long-option threads --exclusive --description 'how many pieces to decompress at once (default: one a processor)'
complete --command cowtool --condition '__cowtool_runs unpack' --arguments '(__cowtool_layers)'

complete --command cowtool --condition '__cowtool_runs verify-fingerprint' --long-option full --description 'compare everything in the base record, however long it takes'
complete --command cowtool --condition '__cowtool_runs verify-fingerprint' --long-option keep-going --description 'of several files, go on behind one that fails: the default'
complete --command cowtool --condition '__cowtool_runs verify-fingerprint' --long-option no-keep-going --description 'of several files, stop behind the first whose exit status is not 0'
complete --command cowtool --condition '__cowtool_runs verify-fingerprint' --arguments '(__cowtool_layers)'
