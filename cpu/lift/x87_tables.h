/*
 * cpu/lift/x87_tables.h -- constants of the transcendental kernels, each cut after its last bit.
 *
 * A fraction is (high * 2^64 + low) / 2^128. A number is (-1)^neg * (high * 2^64 + low) * 2^(exp - 127). Only
 * x87_kernel.c includes this.
 */
#ifndef CPU_LIFT_X87_TABLES_H
#define CPU_LIFT_X87_TABLES_H

#include "base/types.h"

struct fraction {
    uint64_t high, low;
};

struct number {
    uint64_t high, low;
    int32_t exp;
    bool neg;
};

/* 1/3!, 1/5!, ... 1/33! */
static const struct fraction inverse_odd_factorial[] = {
    {0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa}, {0x0222222222222222, 0x2222222222222222},
    {0x000d00d00d00d00d, 0x00d00d00d00d00d0}, {0x00002e3bc74aad8e, 0x671f5583911ca002},
    {0x0000006b99159fd5, 0x138e3f9d1f92e0df}, {0x00000000b092309d, 0x43684be51c198e91},
    {0x0000000000d73f9f, 0x399dc0f88ec32b58}, {0x000000000000ca96, 0x3b81856a53593028},
    {0x0000000000000097, 0xa4da340a0ab92650}, {0x0000000000000000, 0x5c6e3bdb73d5c62f},
    {0x0000000000000000, 0x002ec368262c7033}, {0x0000000000000000, 0x000013f3ccdd165f},
    {0x0000000000000000, 0x0000000746ac70b7}, {0x0000000000000000, 0x00000000024b3f31},
    {0x0000000000000000, 0x000000000000a1a6}, {0x0000000000000000, 0x0000000000000027},
};

/* 1/2!, 1/4!, ... 1/34! */
static const struct fraction inverse_even_factorial[] = {
    {0x8000000000000000, 0x0000000000000000}, {0x0aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa},
    {0x005b05b05b05b05b, 0x05b05b05b05b05b0}, {0x0001a01a01a01a01, 0xa01a01a01a01a01a},
    {0x0000049f93edde27, 0xd71cbbc05b4fa999}, {0x00000008f76c77fc, 0x6c4bdaa26d4c3d67},
    {0x000000000c9cba54, 0x603e4e905d6f8a2e}, {0x00000000000d73f9, 0xf399dc0f88ec32b5},
    {0x0000000000000b41, 0x3c31dcbecbbdd802}, {0x0000000000000007, 0x950ae900808941ea},
    {0x0000000000000000, 0x04338e5b6dfe14a5}, {0x0000000000000000, 0x0001f2cf01972f57},
    {0x0000000000000000, 0x000000c4742fe352}, {0x0000000000000000, 0x0000000042862898},
    {0x0000000000000000, 0x000000000013932c}, {0x0000000000000000, 0x000000000000050d},
    {0x0000000000000000, 0x0000000000000001},
};

/* 1/2!, 1/3!, ... 1/16! */
static const struct fraction inverse_factorial[] = {
    {0x8000000000000000, 0x0000000000000000}, {0x2aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa},
    {0x0aaaaaaaaaaaaaaa, 0xaaaaaaaaaaaaaaaa}, {0x0222222222222222, 0x2222222222222222},
    {0x005b05b05b05b05b, 0x05b05b05b05b05b0}, {0x000d00d00d00d00d, 0x00d00d00d00d00d0},
    {0x0001a01a01a01a01, 0xa01a01a01a01a01a}, {0x00002e3bc74aad8e, 0x671f5583911ca002},
    {0x0000049f93edde27, 0xd71cbbc05b4fa999}, {0x0000006b99159fd5, 0x138e3f9d1f92e0df},
    {0x00000008f76c77fc, 0x6c4bdaa26d4c3d67}, {0x00000000b092309d, 0x43684be51c198e91},
    {0x000000000c9cba54, 0x603e4e905d6f8a2e}, {0x0000000000d73f9f, 0x399dc0f88ec32b58},
    {0x00000000000d73f9, 0xf399dc0f88ec32b5},
};

/* 1/3, 1/5, ... 1/25 */
static const struct fraction inverse_odd[] = {
    {0x5555555555555555, 0x5555555555555555}, {0x3333333333333333, 0x3333333333333333},
    {0x2492492492492492, 0x4924924924924924}, {0x1c71c71c71c71c71, 0xc71c71c71c71c71c},
    {0x1745d1745d1745d1, 0x745d1745d1745d17}, {0x13b13b13b13b13b1, 0x3b13b13b13b13b13},
    {0x1111111111111111, 0x1111111111111111}, {0x0f0f0f0f0f0f0f0f, 0x0f0f0f0f0f0f0f0f},
    {0x0d79435e50d79435, 0xe50d79435e50d794}, {0x0c30c30c30c30c30, 0xc30c30c30c30c30c},
    {0x0b21642c8590b216, 0x42c8590b21642c85}, {0x0a3d70a3d70a3d70, 0xa3d70a3d70a3d70a},
};

/* atan(i / 32), i = 0 to 32 */
static const struct number atan_table[] = {
    {0, 0, 0, false},
    {0xffeaaddd4bb12542, 0x779d776dda8c6213, -6, false},
    {0xffaaddb967ef4e36, 0xcb2792dc0e2e0d51, -5, false},
    {0xbf70c13017887460, 0x93567e784cf83676, -4, false},
    {0xfeadd4d5617b6e32, 0xc897989f3e888ef7, -4, false},
    {0x9eb77746331362c3, 0x47619d250360fe85, -3, false},
    {0xbdcbda5e72d81134, 0x7b0b4f881c9c7487, -3, false},
    {0xdc86ba9493051022, 0xf621a5c1cb552f02, -3, false},
    {0xfadbafc96406eb15, 0x6dc79ef5f7a217e5, -3, false},
    {0x8c5fad185f8bc130, 0xca4748b1bf88298d, -2, false},
    {0x9b13b9b83f5e5e69, 0xc5abb498d27af328, -2, false},
    {0xa9856cca8e6a4eda, 0x99b7f77bf7d9e8c1, -2, false},
    {0xb7b0ca0f26f78473, 0x8aa32122dcfe4483, -2, false},
    {0xc59269ca50d92b6d, 0xa1746e91f50a28dd, -2, false},
    {0xd327761e611fe5b6, 0x427c95e9001e7136, -2, false},
    {0xe06da64a764f7c67, 0xc631ed96798cb803, -2, false},
    {0xed63382b0dda7b45, 0x6fe445ecbc3a8d03, -2, false},
    {0xfa06e85aa0a0be5c, 0x66d23c7d5dc8ecc2, -2, false},
    {0x832bf4a6d9867e2a, 0x4b6a09cb61a515c0, -1, false},
    {0x892aecdfde9547b5, 0x094478fc472b4afb, -1, false},
    {0x8f005d5ef7f59f9b, 0x5c835e1665c43747, -1, false},
    {0x94ac72c9847186f6, 0x18c4f393f78a32f8, -1, false},
    {0x9a2f80e671bdda20, 0x4226f8e2204ff3bc, -1, false},
    {0x9f89fdc4f4b7a1ec, 0xf8b492644f0701df, -1, false},
    {0xa4bc7d1934f70924, 0x19a87f2a457dac9e, -1, false},
    {0xa9c7abdc4830f5c8, 0x916a84b5be7933f5, -1, false},
    {0xaeac4c38b4d8c080, 0x14725e2f3e52070a, -1, false},
    {0xb36b31c91f043691, 0x590141744462f939, -1, false},
    {0xb8053e2bc2319e73, 0xcb2da55210a4443d, -1, false},
    {0xbc7b5deae98af280, 0xd4113006e80fb290, -1, false},
    {0xc0ce85b8ac526640, 0x89dd62c46e92fa24, -1, false},
    {0xc4ffaffabf8fbd54, 0x8cb43d10bc9e0221, -1, false},
    {0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, -1, false},
};

/* log2(i / 64), i = 45 to 91 */
static const struct number log2_table[] = {
    {0x8215ea5cd3e4c4c7, 0x9b39ffeebc29372a, -1, true},  {0xf3efaff29c559a77, 0xda8ad649da21eaaf, -2, true},
    {0xe40cee16a2ff21c4, 0xaec562332791fe38, -2, true},  {0xd47fcb8c0852f0c0, 0xbfe9dbebf2e8a45d, -2, true},
    {0xc544c055fde99333, 0x54dbf16fb0695ee3, -2, true},  {0xb6587b432e47501b, 0x6d40900b25024b32, -2, true},
    {0xa7b7dd96762cc3c7, 0x2742d7296a39eed6, -2, true},  {0x995ff71b8773432d, 0x124bc6f1acf95dc3, -2, true},
    {0x8b4e029b1f8ac391, 0xa87c02eaf36e2c28, -2, true},  {0xfafec54831f1a484, 0x7f7b2787b173da32, -3, true},
    {0xdfe33d3fffa66037, 0x815ef705cfaef035, -3, true},  {0xc544c055fde99333, 0x54dbf16fb0695ee3, -3, true},
    {0xab1ee14ffd659064, 0x3906f29bbe579929, -3, true},  {0x916d6e1559a4b696, 0x91d79938e7226383, -3, true},
    {0xf058d74797eab325, 0x9d2c6d9213f3f83c, -4, true},  {0xbeb024b67dda6339, 0xda288fc615a727db, -4, true},
    {0x8dd9953002a4e866, 0x31514aef39ce6302, -4, true},  {0xbb9ca64ecac6aaef, 0x2e1c07f0438ebabf, -5, true},
    {0xba1f7430f9aab1b2, 0xa41b08fbe05f82cf, -6, true},  {0, 0, 0, false},
    {0xb73cb42e16914c53, 0x713f108c0857ca30, -6, false}, {0xb5d69bac77ec3989, 0xb03784b5be084906, -5, false},
    {0x8759c4fd14fcd59e, 0x7ba5d5ccc90b8335, -4, false}, {0xb31fb7d64898b3e6, 0x629c130a22bad61e, -4, false},
    {0xde4212056d5dd31d, 0x962d3728cbd5c3cb, -4, false}, {0x8462c466d3cf1cb1, 0x3de37e852a9455ea, -3, false},
    {0x99574f13c570d0fa, 0x8f9603ad3a5d326c, -3, false}, {0xae00d1cfdeb43cfd, 0x00589050345d6e89, -3, false},
    {0xc2615e81781d97ee, 0x9124773b1d4ab87b, -3, false}, {0xd67af16da7649f7f, 0x08f65e00c1b1a5a9, -3, false},
    {0xea4f726192cb7e47, 0xa5ab2811d02a20df, -3, false}, {0xfde0b5c81340511d, 0x46ccc53c2779af92, -3, false},
    {0x88983ed6985bae58, 0x4b82d3cad274fe0c, -2, false}, {0x92203d587039cc12, 0x2dca5d22601dfdde, -2, false},
    {0x9b892675266f66cc, 0x899b64b03f7230dc, -2, false}, {0xa4d3c25e68dc57f2, 0x495fb7fa6d7eda66, -2, false},
    {0xae00d1cfdeb43cfd, 0x00589050345d6e89, -2, false}, {0xb7110e6ce866f2bc, 0x6a905a27b81e2219, -2, false},
    {0xc0052b18b0e2a195, 0x75b04fa6fbd6446c, -2, false}, {0xc8ddd448f8b845a5, 0x95a82b5c34e2ac30, -2, false},
    {0xd19bb053fb0284eb, 0xe206bcbcf62d8fee, -2, false}, {0xda3f5fb9c4150520, 0xa377c7ec513c756e, -2, false},
    {0xe2c97d694adab3f3, 0xf72a5777998629e0, -2, false}, {0xeb3a9f01975077f1, 0xf5f0cc82aaa9ad7e, -2, false},
    {0xf393550f3aa69062, 0x8cf097a388999abd, -2, false}, {0xfbd42b4658367670, 0xc98c002287ad91ab, -2, false},
    {0x81fed45cbccbf99c, 0xa1a3202b3d68f965, -1, false},
};

/* 2^(i / 32), i = -32 to 32 */
static const struct number exp2_table[] = {
    {0x8000000000000000, 0x0000000000000000, -1, false}, {0x82cd8698ac2ba1d7, 0x3e2a475b46520bff, -1, false},
    {0x85aac367cc487b14, 0xc5c95b8c2154c1b2, -1, false}, {0x88980e8092da8527, 0x5df8d76c98c67562, -1, false},
    {0x8b95c1e3ea8bd6e6, 0xfbe4628758a53c90, -1, false}, {0x8ea4398b45cd53c0, 0x2dc0144c8783d4c5, -1, false},
    {0x91c3d373ab11c336, 0x0fd6d8e0ae5ac9d8, -1, false}, {0x94f4efa8fef70961, 0x2e8afad12551de54, -1, false},
    {0x9837f0518db8a96f, 0x46ad23182e42f6f6, -1, false}, {0x9b8d39b9d54e5538, 0xa2a817a2a3cc3f1f, -1, false},
    {0x9ef5326091a111ad, 0xa0911f09ebb9fdd1, -1, false}, {0xa27043030c496818, 0x9b7a04ef80cfdea7, -1, false},
    {0xa5fed6a9b15138ea, 0x1cbd7f621710701b, -1, false}, {0xa9a15ab4ea7c0ef8, 0x541e24ec3531fa73, -1, false},
    {0xad583eea42a14ac6, 0x4980a8c8f59a2ec4, -1, false}, {0xb123f581d2ac258f, 0x87d037e96d215d8e, -1, false},
    {0xb504f333f9de6484, 0x597d89b3754abe9f, -1, false}, {0xb8fbaf4762fb9ee9, 0x1b879778566b65a1, -1, false},
    {0xbd08a39f580c36be, 0xa8811fb66d0faf7a, -1, false}, {0xc12c4cca66709456, 0x7c457d59a50087b5, -1, false},
    {0xc5672a115506dadd, 0x3e2ad0c964dd9f37, -1, false}, {0xc9b9bd866e2f27a2, 0x80e1f92a0511697e, -1, false},
    {0xce248c151f8480e3, 0xe235838f95f2c6ed, -1, false}, {0xd2a81d91f12ae45a, 0x12248e57c3de4028, -1, false},
    {0xd744fccad69d6af4, 0x39a68bb9902d3fde, -1, false}, {0xdbfbb797daf23755, 0x3d840d5a9e29aa64, -1, false},
    {0xe0ccdeec2a94e111, 0x065895048dd333ca, -1, false}, {0xe5b906e77c8348a8, 0x1e5e8f4a4edbb0ec, -1, false},
    {0xeac0c6e7dd24392e, 0xd02d75b3706e54fa, -1, false}, {0xefe4b99bdcdaf5cb, 0x46561cf6948db912, -1, false},
    {0xf5257d152486cc2c, 0x7b9d0c7aed980fc3, -1, false}, {0xfa83b2db722a033a, 0x7c25bb14315d7fcc, -1, false},
    {0x8000000000000000, 0x0000000000000000, 0, false},  {0x82cd8698ac2ba1d7, 0x3e2a475b46520bff, 0, false},
    {0x85aac367cc487b14, 0xc5c95b8c2154c1b2, 0, false},  {0x88980e8092da8527, 0x5df8d76c98c67562, 0, false},
    {0x8b95c1e3ea8bd6e6, 0xfbe4628758a53c90, 0, false},  {0x8ea4398b45cd53c0, 0x2dc0144c8783d4c5, 0, false},
    {0x91c3d373ab11c336, 0x0fd6d8e0ae5ac9d8, 0, false},  {0x94f4efa8fef70961, 0x2e8afad12551de54, 0, false},
    {0x9837f0518db8a96f, 0x46ad23182e42f6f6, 0, false},  {0x9b8d39b9d54e5538, 0xa2a817a2a3cc3f1f, 0, false},
    {0x9ef5326091a111ad, 0xa0911f09ebb9fdd1, 0, false},  {0xa27043030c496818, 0x9b7a04ef80cfdea7, 0, false},
    {0xa5fed6a9b15138ea, 0x1cbd7f621710701b, 0, false},  {0xa9a15ab4ea7c0ef8, 0x541e24ec3531fa73, 0, false},
    {0xad583eea42a14ac6, 0x4980a8c8f59a2ec4, 0, false},  {0xb123f581d2ac258f, 0x87d037e96d215d8e, 0, false},
    {0xb504f333f9de6484, 0x597d89b3754abe9f, 0, false},  {0xb8fbaf4762fb9ee9, 0x1b879778566b65a1, 0, false},
    {0xbd08a39f580c36be, 0xa8811fb66d0faf7a, 0, false},  {0xc12c4cca66709456, 0x7c457d59a50087b5, 0, false},
    {0xc5672a115506dadd, 0x3e2ad0c964dd9f37, 0, false},  {0xc9b9bd866e2f27a2, 0x80e1f92a0511697e, 0, false},
    {0xce248c151f8480e3, 0xe235838f95f2c6ed, 0, false},  {0xd2a81d91f12ae45a, 0x12248e57c3de4028, 0, false},
    {0xd744fccad69d6af4, 0x39a68bb9902d3fde, 0, false},  {0xdbfbb797daf23755, 0x3d840d5a9e29aa64, 0, false},
    {0xe0ccdeec2a94e111, 0x065895048dd333ca, 0, false},  {0xe5b906e77c8348a8, 0x1e5e8f4a4edbb0ec, 0, false},
    {0xeac0c6e7dd24392e, 0xd02d75b3706e54fa, 0, false},  {0xefe4b99bdcdaf5cb, 0x46561cf6948db912, 0, false},
    {0xf5257d152486cc2c, 0x7b9d0c7aed980fc3, 0, false},  {0xfa83b2db722a033a, 0x7c25bb14315d7fcc, 0, false},
    {0x8000000000000000, 0x0000000000000000, 1, false},
};

/* 2^(i / 32) - 1, i = -32 to 32 */
static const struct number exp2_minus_one_table[] = {
    {0x8000000000000000, 0x0000000000000000, -1, true},
    {0xfa64f2cea7a8bc51, 0x83ab7149735be801, -2, true},
    {0xf4aa7930676f09d6, 0x746d48e7bd567c9b, -2, true},
    {0xeecfe2feda4af5b1, 0x440e5126ce73153a, -2, true},
    {0xe8d47c382ae85232, 0x08373af14eb586df, -2, true},
    {0xe2b78ce97465587f, 0xa47fd766f0f85674, -2, true},
    {0xdc785918a9dc7993, 0xe0524e3ea34a6c4f, -2, true},
    {0xd61620ae0211ed3d, 0xa2ea0a5db55c4357, -2, true},
    {0xcf901f5ce48ead21, 0x72a5b9cfa37a1213, -2, true},
    {0xc8e58c8c5563558e, 0xbaafd0bab86781c1, -2, true},
    {0xc2159b3edcbddca4, 0xbeddc1ec288c045d, -2, true},
    {0xbb1f79f9e76d2fce, 0xc90bf620fe6042b0, -2, true},
    {0xb40252ac9d5d8e2b, 0xc685013bd1df1fc9, -2, true},
    {0xacbd4a962b07e20f, 0x57c3b627959c0b19, -2, true},
    {0xa54f822b7abd6a73, 0x6cfeae6e14cba277, -2, true},
    {0x9db814fc5aa7b4e0, 0xf05f902d25bd44e3, -2, true},
    {0x95f619980c4336f7, 0x4d04ec99156a82c1, -2, true},
    {0x8e08a1713a08c22d, 0xc8f0d10f532934bc, -2, true},
    {0x85eeb8c14fe79282, 0xaefdc09325e0a10b, -2, true},
    {0xfb4eccd6663daea6, 0x0eea0a996bfde12a, -3, true},
    {0xea6357baabe4948b, 0x0754bcda6c898322, -3, true},
    {0xd91909e647436175, 0xfc781b57ebba5a07, -3, true},
    {0xc76dcfab81edfc70, 0x7729f1c1a834e44a, -3, true},
    {0xb55f89b83b546e97, 0xb76dc6a0f086ff5e, -3, true},
    {0xa2ec0cd4a58a542f, 0x1965d119bf4b0087, -3, true},
    {0x901121a0943722ab, 0x09efca958759566e, -3, true},
    {0xf999089eab58f777, 0xcd3b57db916661ae, -4, true},
    {0xd237c8c41be5babf, 0x0d0b85ad8922789a, -4, true},
    {0xa9f9c8c116de3689, 0x7e9452647c8d5829, -4, true},
    {0x80da3321192851a5, 0xcd4f184b5b923769, -4, true},
    {0xada82eadb7933d38, 0x462f3851267f03c9, -5, true},
    {0xaf89a491babf98b0, 0x7b489d79d450066f, -6, true},
    {0, 0, 0, false},
    {0xb361a62b0ae875cf, 0x8a91d6d19482ffca, -6, false},
    {0xb5586cf9890f6298, 0xb92b71842a983642, -5, false},
    {0x8980e8092da85275, 0xdf8d76c98c67562e, -4, false},
    {0xb95c1e3ea8bd6e6f, 0xbe4628758a53c901, -4, false},
    {0xea4398b45cd53c02, 0xdc0144c8783d4c5a, -4, false},
    {0x8e1e9b9d588e19b0, 0x7eb6c70572d64ec0, -3, false},
    {0xa7a77d47f7b84b09, 0x7457d6892a8ef2a2, -3, false},
    {0xc1bf828c6dc54b7a, 0x356918c17217b7b2, -3, false},
    {0xdc69cdceaa72a9c5, 0x1540bd151e61f8f8, -3, false},
    {0xf7a993048d088d6d, 0x0488f84f5dcfee8b, -3, false},
    {0x89c10c0c3125a062, 0x6de813be033f7a9e, -2, false},
    {0x97fb5aa6c544e3a8, 0x72f5fd885c41c06c, -2, false},
    {0xa6856ad3a9f03be1, 0x507893b0d4c7e9cc, -2, false},
    {0xb560fba90a852b19, 0x2602a323d668bb11, -2, false},
    {0xc48fd6074ab0963e, 0x1f40dfa5b4857639, -2, false},
    {0xd413cccfe7799211, 0x65f626cdd52afa7c, -2, false},
    {0xe3eebd1d8bee7ba4, 0x6e1e5de159ad9686, -2, false},
    {0xf4228e7d6030dafa, 0xa2047ed9b43ebde8, -2, false},
    {0x82589994cce128ac, 0xf88afab34a010f6a, -1, false},
    {0x8ace5422aa0db5ba, 0x7c55a192c9bb3e6e, -1, false},
    {0x93737b0cdc5e4f45, 0x01c3f2540a22d2fc, -1, false},
    {0x9c49182a3f0901c7, 0xc46b071f2be58dda, -1, false},
    {0xa5503b23e255c8b4, 0x24491caf87bc8050, -1, false},
    {0xae89f995ad3ad5e8, 0x734d1773205a7fbc, -1, false},
    {0xb7f76f2fb5e46eaa, 0x7b081ab53c5354c8, -1, false},
    {0xc199bdd85529c222, 0x0cb12a091ba66794, -1, false},
    {0xcb720dcef9069150, 0x3cbd1e949db761d9, -1, false},
    {0xd5818dcfba48725d, 0xa05aeb66e0dca9f5, -1, false},
    {0xdfc97337b9b5eb96, 0x8cac39ed291b7225, -1, false},
    {0xea4afa2a490d9858, 0xf73a18f5db301f86, -1, false},
    {0xf50765b6e4540674, 0xf84b762862baff99, -1, false},
    {0x8000000000000000, 0x0000000000000000, 0, false},
};

static const struct number pi = {0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, 1, false};
static const struct number pi_2 = {0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, 0, false};
static const struct number pi_4 = {0xc90fdaa22168c234, 0xc4c6628b80dc1cd1, -1, false};
static const struct number pi_3_4 = {0x96cbe3f9990e91a7, 0x9394c9e8a0a5159c, 1, false};
static const struct number ln2 = {0xb17217f7d1cf79ab, 0xc9e3b39803f2f6af, -1, false};
static const struct number two_over_ln2 = {0xb8aa3b295c17f0bb, 0xbe87fed0691d3e88, 1, false};

/* 2/pi with 320 bits of fraction, low limb first */
static const uint64_t two_over_pi[5] = {0xb7246e3a424dd2e0, 0xfe5163abdebbc561, 0xdb6295993c439041,
                                        0xfc2757d1f534ddc0, 0xa2f9836e4e441529};

#endif
